//! The client against a real TLS server: what is refused, and what a person is told about it.

use std::net::SocketAddr;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use super::*;
use crate::cli::following::{Following, is_refusal};
use crate::cli::show::Shown;
use crate::cli::{Cli, ClientCommand, Command};
use crate::domain::time::Stamp;
use crate::proto::v1;
use crate::proto::v1::verification_service_server::{
    VerificationService, VerificationServiceServer,
};
use crate::testing::ca::{Issued, TestAuthority};

/// Says inactive to whoever shows the bearer token `good`, and that it does not know anybody else.
struct Knows;

#[async_trait::async_trait]
impl VerificationService for Knows {
    async fn introspect_credential(
        &self,
        request: Request<v1::IntrospectCredentialRequest>,
    ) -> Result<Response<v1::IntrospectCredentialResponse>, Status> {
        match request.metadata().get("authorization").map(MetadataValue::as_bytes) {
            Some(b"Bearer good") => Ok(Response::new(v1::IntrospectCredentialResponse::default())),
            _ => Err(Status::unauthenticated("no identity")),
        }
    }

    type WatchRevocationsStream =
        futures_util::stream::Empty<Result<v1::WatchRevocationsResponse, Status>>;

    async fn watch_revocations(
        &self,
        _: Request<tonic::Streaming<v1::WatchRevocationsRequest>>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        Err(Status::unimplemented("this broker has no feed"))
    }

    async fn get_trust_bundle(
        &self,
        _: Request<v1::GetTrustBundleRequest>,
    ) -> Result<Response<v1::GetTrustBundleResponse>, Status> {
        Ok(Response::new(v1::GetTrustBundleResponse::default()))
    }
}

struct Running {
    address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(certificate: &Issued, clients: Option<&TestAuthority>) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let identity = Identity::from_pem(certificate.chain_pem(), certificate.key_pem());
    let mut tls = ServerTlsConfig::new().identity(identity);
    if let Some(clients) = clients {
        tls = tls.client_ca_root(Certificate::from_pem(clients.pem()));
    }
    let server = Server::builder().tls_config(tls).unwrap();
    let server = { server }.add_service(VerificationServiceServer::new(Knows));
    let task = tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    Running { address, task: task.abort_handle() }
}

/// A folder with `ca.pem`, `token` and `bad-token`, and a way to say what to do with them.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(ca: &TestAuthority) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("ca.pem", &ca.pem());
        folder.write("token", "good\n");
        folder.write("bad-token", "bad\n");
        folder
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    /// What comes of `token introspect` with these options; `@` stands for the folder.
    async fn introspect(&self, broker: &str, options: &[&str]) -> Result<Shown, Failure> {
        let at = |option: &&str| option.replace('@', &format!("{}/", self.0.path().display()));
        let command = ["leasehold", "token", "introspect", "@token", "--broker", broker];
        let line: Vec<_> = command.iter().chain(options).map(at).collect();
        let cli = Cli::try_parse_from(line).unwrap();
        let client = cli.connection.open().await?;
        match cli.command {
            Command::Client(command) => match *command {
                ClientCommand::Token(command) => command.run(&client).await,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

fn told(outcome: Result<Shown, Failure>) -> String {
    outcome.unwrap_err().text()
}

#[tokio::test]
async fn a_call_carries_the_token_and_a_refusal_says_how_to_show_oneself() {
    let ca = TestAuthority::root("broker");
    let running = serve(&ca.server(), None).await;
    let folder = Folder::new(&ca);
    for host in ["127.0.0.1", "localhost"] {
        let broker = format!("https://{host}:{}", running.address.port());
        let options = ["--ca", "@ca.pem", "--token-file", "@token"];
        let shown = folder.introspect(&broker, &options).await.unwrap();
        assert_eq!(shown.text, "inactive");
        let options = ["--ca", "@ca.pem", "--token-file", "@bad-token"];
        let failure = folder.introspect(&broker, &options).await.unwrap_err();
        assert!(failure.text().contains("UNAUTHENTICATED"), "{failure:?}");
        assert!(!format!("{failure:?} {}", failure.text()).contains("bad"));
    }
}

#[tokio::test]
async fn a_broker_from_before_there_were_watches_refuses_and_is_not_taken_for_one_that_is_away() {
    let ca = TestAuthority::root("broker");
    let running = serve(&ca.server(), None).await;
    let folder = Folder::new(&ca);
    let ca_file = folder.0.path().join("ca.pem");
    let line = ["leasehold", "--broker", &format!("https://{}", running.address), "--ca"];
    let line = line.iter().map(|part| part.to_string()).chain([ca_file.display().to_string()]);
    let connection = Cli::try_parse_from(line.chain(["status".to_owned()])).unwrap().connection;
    let mut following = Following::of(connection, "tsk_1".to_owned());
    let refused = |failure: &Failure, _| failure.code().is_some_and(is_refusal);
    let failure = following.next(refused).await.unwrap_err();
    assert_eq!(failure.code(), Some(tonic::Code::Unimplemented), "{failure:?}");
}

#[tokio::test]
async fn class_08_a_broker_of_another_ca_is_not_talked_to() {
    let ca = TestAuthority::root("broker");
    let running = serve(&ca.server(), None).await;
    let folder = Folder::new(&TestAuthority::root("broker"));
    let broker = format!("https://{}", running.address);
    let options = ["--ca", "@ca.pem", "--token-file", "@token"];
    assert_eq!(
        told(folder.introspect(&broker, &options).await),
        format!(
            "error: `{broker}`: its certificate was not issued by the CA in `--ca`\n  give `--ca` the PEM of the CA \
             that issued the broker's certificate"
        )
    );
}

#[tokio::test]
async fn a_broker_under_another_name_than_its_certificates_is_not_talked_to() {
    let ca = TestAuthority::root("broker");
    let other = ca.svid("spiffe://td/broker", Stamp::from_seconds(1), Stamp::from_seconds(1 << 32));
    let running = serve(&other, None).await;
    let folder = Folder::new(&ca);
    let options = ["--ca", "@ca.pem"];
    let told = told(folder.introspect(&format!("https://{}", running.address), &options).await);
    assert!(told.contains("its certificate is for other names than this"), "{told}");
}

#[tokio::test]
async fn a_client_certificate_that_the_broker_refuses_is_named_as_the_cause() {
    let (ca, trusted) = (TestAuthority::root("broker"), TestAuthority::root("clients"));
    let running = serve(&ca.server(), Some(&trusted)).await;
    let folder = Folder::new(&ca);
    let stranger = TestAuthority::root("strangers").svid(
        "spiffe://td/me",
        Stamp::from_seconds(1),
        Stamp::from_seconds(1 << 32),
    );
    folder.write("me.pem", &stranger.chain_pem());
    folder.write("me.key", &stranger.key_pem());
    let broker = format!("https://{}", running.address);
    let options = ["--ca", "@ca.pem", "--cert", "@me.pem", "--key", "@me.key"];
    let refused = told(folder.introspect(&broker, &options).await);
    assert!(refused.contains("it refuses the certificate in `--cert`"), "{refused}");
    assert!(refused.contains("`[[trust.spiffe]]`"), "{refused}");
    let without = told(folder.introspect(&broker, &["--ca", "@ca.pem"]).await);
    assert!(without.contains("it asks for a client certificate"), "{without}");
}

#[tokio::test]
async fn nobody_listening_is_told_from_somebody_who_does_not_speak_tls() {
    let folder = Folder::new(&TestAuthority::root("broker"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broker = format!("https://{}", listener.local_addr().unwrap());
    let plain = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let told_plain = told(folder.introspect(&broker, &["--ca", "@ca.pem"]).await);
    assert!(told_plain.contains("it does not speak TLS"), "{told_plain}");
    plain.await.unwrap();
    let gone = told(folder.introspect(&broker, &["--ca", "@ca.pem"]).await);
    assert_eq!(
        gone,
        format!(
            "error: nothing listens at `{broker}`\n  start the broker with `leasehold serve`, or name another with \
             `--broker` (or LEASEHOLD_BROKER)"
        )
    );
}

#[tokio::test]
async fn options_that_do_not_fit_together_are_wrong_use_and_nothing_is_sent() {
    let folder = Folder::new(&TestAuthority::root("broker"));
    folder.write("empty", "");
    let https = "https://127.0.0.1:1";
    for (broker, options, said) in [
        (https, &[][..], "say whom to trust"),
        (https, &["--ca", "@empty"], "holds no certificate in PEM"),
        (https, &["--ca", "@ca.pem", "--cert", "@ca.pem"], "`--cert` is without its `--key`"),
        (https, &["--ca", "@ca.pem", "--key", "@ca.pem"], "`--key` is without its `--cert`"),
        (https, &["--ca", "@ca.pem", "--cert", "@ca.pem", "--key", "@ca.pem"], "cannot be used"),
        (https, &["--ca", "@ca.pem", "--token-file", "@empty"], "holds no token"),
        (
            https,
            &["--ca", "@ca.pem", "--cert", "@a", "--key", "@b", "--token-file", "@token"],
            "are two identities",
        ),
        ("http://127.0.0.1:1", &["--ca", "@ca.pem"], "is not an `https` address"),
        ("https://", &["--ca", "@ca.pem"], "is no URL"),
    ] {
        let failure = folder.introspect(broker, options).await.unwrap_err();
        assert!(matches!(failure, Failure::Usage(_)), "{failure:?}");
        assert!(failure.text().contains(said), "{said}: {}", failure.text());
    }
    let missing = folder.introspect(https, &["--ca", "@missing"]).await.unwrap_err();
    assert!(matches!(&missing, Failure::Read { path, .. } if path.ends_with("missing")));
    for (options, name) in [
        (&["--ca", "@missing"][..], "LEASEHOLD_CA"),
        (&["--ca", "@ca.pem", "--cert", "@missing", "--key", "@missing"], "LEASEHOLD_CERT"),
        (&["--ca", "@ca.pem", "--cert", "@ca.pem", "--key", "@missing"], "LEASEHOLD_KEY"),
        (&["--ca", "@ca.pem", "--token-file", "@missing"], "LEASEHOLD_TOKEN_FILE"),
    ] {
        let told = self::told(folder.introspect(https, options).await);
        assert!(told.contains("/missing` cannot be read: "), "{told}");
        assert!(
            told.contains("there is no such file: correct `--") && told.contains(name),
            "{told}"
        );
    }
    let options = ["--ca", "@ca.pem", "--token-file", "@"];
    let directory = told(folder.introspect(https, &options).await);
    assert!(directory.contains("name a file with `--token-file`"), "{directory}");
}
