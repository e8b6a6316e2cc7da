//! The sockets, and what answers behind each.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::threads::{First, Threads};
use super::{AppError, Sockets, descriptors};
use crate::config::Config;
use crate::listen::connections::{connections, connections_where, plain_connections, sockets};
use crate::listen::serve::{ConnectionLimits, serve, serve_on};
use crate::listen::tls::speaking;

/// What answers.
pub(super) struct Doors {
    /// gRPC.
    pub(super) services: Router,
    /// HTTP.
    pub(super) endpoints: Router,
    /// The numbers and health, if they have a socket of their own.
    pub(super) numbers: Router,
    /// How gRPC's socket speaks; the others as it does, and HTTP/1.1.
    pub(super) tls: Arc<ServerConfig>,
    /// Who goes first.
    pub(super) first: First,
}

/// Where it answers.
pub(super) struct Addresses {
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) metrics: Option<SocketAddr>,
}

impl Doors {
    /// Lets callers in until `stop`.
    pub(super) fn open(
        self,
        listening: Sockets,
        config: &Config,
        (threads, tasks): (&Threads, &TaskTracker),
        stop: &CancellationToken,
    ) -> Result<Addresses, AppError> {
        let addresses = Addresses {
            grpc: local(&listening.grpc)?,
            http: local(&listening.http)?,
            metrics: listening.metrics.as_ref().map(local).transpose()?,
        };
        let open = descriptors::afford(&config.limits);
        let grace = config.limits.drain_timeout.to_std();
        let each = ConnectionLimits { grace, ..Default::default() };
        let http_tls = speaking(&self.tls, &["h2", "http/1.1"]);
        let (door, serving) = (threads.handshakes(), threads.serving());
        // A socket is heard of by the runtime that it is registered with.
        let _here = door.enter();
        for (socket, tls, router, first) in [
            (listening.grpc, self.tls, self.services, self.first.over_grpc),
            (listening.http, http_tls.clone(), self.endpoints, self.first.over_http),
        ] {
            let incoming = connections_where(sockets(settled(socket)?), tls, open, first);
            let serving = serve_on(serving.clone(), router, incoming, each, stop.clone());
            tasks.spawn_on(serving, &door);
        }
        // INVARIANT (plain on loopback): what goes without TLS never leaves this machine, by the configuration and in fact.
        let here =
            |address: Option<SocketAddr>| address.is_some_and(|address| address.ip().is_loopback());
        match listening.metrics {
            Some(socket) if here(config.listen.metrics) && here(addresses.metrics) => {
                let incoming = plain_connections(sockets(settled(socket)?), open);
                tasks.spawn_on(serve(self.numbers, incoming, each, stop.clone()), &door);
            }
            Some(socket) => {
                let incoming = connections(sockets(settled(socket)?), http_tls, open);
                tasks.spawn_on(serve(self.numbers, incoming, each, stop.clone()), &door);
            }
            None => {}
        }
        Ok(addresses)
    }
}

/// The socket, registered with the runtime that this runs in.
fn settled(socket: TcpListener) -> Result<TcpListener, AppError> {
    let settled = socket.into_std().and_then(TcpListener::from_std);
    settled.map_err(|fault| AppError::Socket("a bound socket".into(), fault))
}

fn local(socket: &TcpListener) -> Result<SocketAddr, AppError> {
    socket.local_addr().map_err(|fault| AppError::Socket("a bound socket".into(), fault))
}
