//! `documents.v1.Documents`, the service that is guarded. In yours `tonic-prost-build` makes this of
//!
//! ```proto
//! service Documents { rpc Read(ReadRequest) returns (Document); }
//! message ReadRequest {}
//! message Document { string text = 1; }
//! ```

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::uri::PathAndQuery;
use leasehold::verifier::Admission;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, client, server};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

const READ: &str = "/documents.v1.Documents/Read";

/// Which document: there is one.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReadRequest {}

/// What stands in it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Document {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
}

/// The service.
#[derive(Clone)]
pub(crate) struct Documents;

/// Whoever comes here was let in by the guard, which left the admission: with the credential, and a way to be told that it died.
async fn read(request: Request<ReadRequest>) -> Result<Response<Document>, Status> {
    let admission = request.extensions().get::<Arc<Admission>>();
    let admission = admission.ok_or_else(|| Status::internal("nothing guards this"))?;
    let lease = admission.credential().execution().lease;
    let text = format!("Revenue is up; so is the number of agents. Read on lease {lease}.");
    Ok(Response::new(Document { text }))
}

impl NamedService for Documents {
    const NAME: &'static str = "documents.v1.Documents";
}

impl Service<http::Request<Body>> for Documents {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            if request.uri().path() != READ {
                return Ok(Status::unimplemented("there is `Read`, and no more").into_http());
            }
            let mut grpc = server::Grpc::new(ProstCodec::<Document, ReadRequest>::default());
            Ok(grpc.unary(service_fn(read), request).await)
        })
    }
}

/// Calls the service, as its clients do.
pub(crate) async fn call(
    channel: Channel,
    request: Request<ReadRequest>,
) -> Result<Document, Status> {
    let mut grpc = client::Grpc::new(channel);
    grpc.ready().await.map_err(|fault| Status::unavailable(fault.to_string()))?;
    let codec = ProstCodec::<ReadRequest, Document>::default();
    let path = PathAndQuery::from_static(READ);
    Ok(grpc.unary(request, path, codec).await?.into_inner())
}
