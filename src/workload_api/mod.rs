//! The SPIFFE Workload API, as its client: what the agent of this machine says about bundles and about ourselves.
//!
//! ```text
//!  agent ── stream, whole state in every message ──▶ follow ──▶ News ──▶ whoever swaps a snapshot
//! ```
//!
//! Messages are handed on as they come, each the whole truth: what is missing in it was withdrawn.

mod backoff;
mod follow;
pub mod svid;

pub use self::follow::{Following, News, Open, REFRESH};

use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use crate::proto::workload_api::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use crate::proto::workload_api::{
    JwtBundlesRequest, JwtBundlesResponse, X509BundlesRequest, X509BundlesResponse,
    X509svidRequest, X509svidResponse,
};
use crate::spiffe::endpoint::WorkloadEndpoint;

/// The wire's answer with our SVIDs, which [`svid::OwnSvid`] is read from.
pub(crate) type X509Svids = X509svidResponse;

/// The longest message that is read, in bytes: a few hundred bundles.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// The header that every call has, against requests that somebody was tricked into (SPIFFE Workload Endpoint section 5).
const SECURITY_HEADER: (&str, &str) = ("workload.spiffe.io", "true");

/// A Workload API. Nothing is connected before the first call.
#[derive(Clone, Debug)]
pub struct WorkloadApi {
    endpoint: WorkloadEndpoint,
    client: SpiffeWorkloadApiClient<Channel>,
}

/// The address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the Workload API's address `{0}` cannot be used")]
pub struct EndpointUnusable(WorkloadEndpoint);

impl WorkloadApi {
    /// The Workload API at an address.
    ///
    /// # Errors
    /// [`EndpointUnusable`] if gRPC does not take the address.
    pub fn at(endpoint: WorkloadEndpoint) -> Result<Self, EndpointUnusable> {
        let Ok(channel) = Endpoint::from_shared(endpoint.to_uri()) else {
            return Err(EndpointUnusable(endpoint));
        };
        let client = SpiffeWorkloadApiClient::new(channel.connect_lazy());
        let client = client.max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { endpoint, client })
    }

    /// Where it is.
    pub fn endpoint(&self) -> &WorkloadEndpoint {
        &self.endpoint
    }

    /// The roots of X.509-SVIDs, of every trust domain that we may know.
    pub(crate) async fn x509_bundles(self) -> Result<Streaming<X509BundlesResponse>, Status> {
        let answer = self.client.clone().fetch_x509_bundles(asking(X509BundlesRequest {})).await;
        answer.map(tonic::Response::into_inner)
    }

    /// The keys of JWT-SVIDs, of every trust domain that we may know.
    pub(crate) async fn jwt_bundles(self) -> Result<Streaming<JwtBundlesResponse>, Status> {
        let answer = self.client.clone().fetch_jwt_bundles(asking(JwtBundlesRequest {})).await;
        answer.map(tonic::Response::into_inner)
    }

    /// Our own X.509-SVIDs, with their keys.
    pub(crate) async fn x509_svids(self) -> Result<Streaming<X509svidResponse>, Status> {
        let answer = self.client.clone().fetch_x509svid(asking(X509svidRequest {})).await;
        answer.map(tonic::Response::into_inner)
    }
}

fn asking<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let (name, value) = SECURITY_HEADER;
    request.metadata_mut().insert(name, tonic::metadata::MetadataValue::from_static(value));
    request
}
