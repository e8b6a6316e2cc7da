//! A workload of the story: its certificate, its connection to the broker, its way to other servers.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use zeroize::Zeroizing;

use crate::playground::{Playground, Workload};
use crate::proto::v1::credential_service_client::CredentialServiceClient;
use crate::proto::v1::operator_service_client::OperatorServiceClient;
use crate::proto::v1::task_service_client::TaskServiceClient;
use crate::proto::v1::verification_service_client::VerificationServiceClient;

/// A workload cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file of the playground.
    #[error("`{0}`: {1}")]
    File(String, std::io::Error),
    /// A file of the playground holds something else.
    #[error("a certificate or key of the playground is not PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// rustls does not take it.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The gRPC channel.
    #[error("the connection to the broker: {0}")]
    Channel(#[from] tonic::transport::Error),
    /// The HTTP client.
    #[error("the HTTP client: {0}")]
    Http(#[from] reqwest::Error),
}

/// A certificate, what leads up to its root, and its key.
pub(super) struct ClientIdentity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// A workload with its connections. Clones share them.
#[derive(Clone)]
pub(super) struct Caller {
    broker: Channel,
    /// For calls with its own certificate.
    pub(super) web: reqwest::Client,
}

impl Caller {
    /// A workload of the playground, connected to the broker at this address.
    pub(super) fn new(
        playground: &Playground,
        workload: Workload,
        broker: SocketAddr,
    ) -> Result<Self, ClientError> {
        let chain = read(&playground.cert_file(workload))?;
        let key = read(&playground.key_file(workload))?;
        let root = read(&playground.root_file())?;
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&*root))
            .identity(Identity::from_pem(&*chain, &*key))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{broker}"))?.tls_config(tls)?;
        let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&key)?;
        let web = web_client(&playground.root_file(), ClientIdentity { chain, key })?;
        Ok(Self { broker: endpoint.connect_lazy(), web })
    }

    pub(super) fn tasks(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.broker.clone())
    }

    pub(super) fn credentials(&self) -> CredentialServiceClient<Channel> {
        CredentialServiceClient::new(self.broker.clone())
    }

    pub(super) fn verification(&self) -> VerificationServiceClient<Channel> {
        VerificationServiceClient::new(self.broker.clone())
    }

    pub(super) fn operator(&self) -> OperatorServiceClient<Channel> {
        OperatorServiceClient::new(self.broker.clone())
    }
}

/// An HTTP client that shows this certificate, and trusts the root in the file and nothing else.
pub(super) fn web_client(
    root_file: &Path,
    identity: ClientIdentity,
) -> Result<reqwest::Client, ClientError> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&read(root_file)?)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain, identity.key)?;
    Ok(reqwest::Client::builder().tls_backend_preconfigured(tls).https_only(true).build()?)
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, ClientError> {
    let bytes = fs::read(path);
    let bytes = bytes.map_err(|fault| ClientError::File(path.display().to_string(), fault))?;
    Ok(Zeroizing::new(bytes))
}
