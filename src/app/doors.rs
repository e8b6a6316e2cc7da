//! The sockets, and what answers behind each.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{AppError, Sockets, descriptors};
use crate::config::Config;
use crate::listen::connections::{connections, plain_connections, sockets};
use crate::listen::serve::{ConnectionLimits, serve};
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
        tasks: &TaskTracker,
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
        let mut doors = vec![
            (listening.grpc, self.tls, self.services),
            (listening.http, http_tls.clone(), self.endpoints),
        ];
        // INVARIANT (plain on loopback): what goes without TLS never leaves this machine, by the configuration and in fact.
        let here =
            |address: Option<SocketAddr>| address.is_some_and(|address| address.ip().is_loopback());
        match listening.metrics {
            Some(socket) if here(config.listen.metrics) && here(addresses.metrics) => {
                let incoming = plain_connections(sockets(socket), open);
                tasks.spawn(serve(self.numbers, incoming, each, stop.clone()));
            }
            Some(socket) => doors.push((socket, http_tls, self.numbers)),
            None => {}
        }
        for (socket, tls, router) in doors {
            let incoming = connections(sockets(socket), tls, open);
            tasks.spawn(serve(router, incoming, each, stop.clone()));
        }
        Ok(addresses)
    }
}

fn local(socket: &TcpListener) -> Result<SocketAddr, AppError> {
    socket.local_addr().map_err(|fault| AppError::Socket("a bound socket".into(), fault))
}
