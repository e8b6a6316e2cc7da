//! The floor of a call: a gRPC service behind the broker's own listener that answers so many bytes, and does nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::routing::post;
use leasehold::broker::seams::{Clock as _, SystemClock};
use leasehold::identity::bundle_files::{BundleFile, BundleFiles};
use leasehold::identity::client_cert::SvidClientVerifier;
use leasehold::listen::connections::{Limits, connections, sockets};
use leasehold::listen::serve::{ConnectionLimits, serve};
use leasehold::listen::tls::{ServerIdentity, server_config};
use leasehold::playground::{BROKER_TRUST_DOMAIN, Playground, TRUST_DOMAIN};
use leasehold::spiffe::id::TrustDomain;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Response, Status};
use tonic_prost::ProstCodec;

use crate::Outcome;
use crate::load::Caller;

const PATH: &str = "/bench.Echo/Answer";

/// As the protobuf message `google.protobuf.BytesValue`.
type Codec = ProstCodec<Vec<u8>, Vec<u8>>;

/// Serves until `stop`, as the broker serves its callers.
pub(crate) async fn start(
    playground: &Playground,
    response_bytes: usize,
    stop: CancellationToken,
) -> Outcome<SocketAddr> {
    let file = |name: &str| playground.dir().join(name);
    let identity = ServerIdentity::from_files(&file("broker.pem"), &file("broker.key"))?;
    let bundle = BundleFile {
        trust_domain: TrustDomain::parse(TRUST_DOMAIN)?,
        path: playground.root_file(),
    };
    let clock = Arc::new(SystemClock::default());
    let own = TrustDomain::parse(BROKER_TRUST_DOMAIN)?;
    let bundles = BundleFiles::alone(&own, vec![bundle], clock.now())?;
    let clients = Arc::new(SvidClientVerifier::new(bundles.shared()));
    let tls = server_config(Arc::new(identity), clients, &["h2"], clock)?;
    let socket = TcpListener::bind("127.0.0.1:0").await?;
    let address = socket.local_addr()?;
    let router =
        Router::new().route(PATH, post(async move |request| answer(request, response_bytes).await));
    let incoming = connections(sockets(socket), tls, Limits::default());
    tokio::spawn(serve(router, incoming, ConnectionLimits::default(), stop));
    Ok(address)
}

async fn answer(request: Request, bytes: usize) -> axum::http::Response<tonic::body::Body> {
    let service = tower::service_fn(move |_: tonic::Request<Vec<u8>>| {
        std::future::ready(Ok::<_, Status>(Response::new(vec![b'e'; bytes])))
    });
    tonic::server::Grpc::new(Codec::default()).unary(service, request).await
}

/// Calls the service.
pub(crate) struct Echo {
    grpc: tonic::client::Grpc<Channel>,
    request: Vec<u8>,
    response_bytes: usize,
}

impl Echo {
    pub(crate) fn new(channel: Channel, request_bytes: usize, response_bytes: usize) -> Self {
        let request = vec![b'e'; request_bytes];
        Self { grpc: tonic::client::Grpc::new(channel), request, response_bytes }
    }
}

impl Caller for Echo {
    async fn run(&mut self) -> Outcome<()> {
        self.grpc.ready().await?;
        let (request, path) =
            (tonic::Request::new(self.request.clone()), PathAndQuery::from_static(PATH));
        let answer = self.grpc.unary(request, path, Codec::default()).await?.into_inner();
        match answer.len() == self.response_bytes {
            true => Ok(()),
            false => Err("the echo answered something else".into()),
        }
    }
}
