//! `listen` and `tls`: where the broker answers, and as whom.

use std::net::{Ipv4Addr, SocketAddr};

use super::section::Section;
use super::store::CertificateFiles;
use super::value;

/// The broker's sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// gRPC, over TLS.
    pub grpc: SocketAddr,
    /// HTTP, over TLS.
    pub http: SocketAddr,
    /// The process's numbers and health: without TLS on a loopback address, over TLS on any other. `None`: the numbers are on
    /// `http`, for everybody.
    pub metrics: Option<SocketAddr>,
    /// Whether gRPC tells its contract to whoever asks; on loopback addresses only.
    pub reflection: bool,
}

impl Default for Listen {
    fn default() -> Self {
        let on = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self { grpc: on(7700), http: on(7701), metrics: None, reflection: false }
    }
}

pub(super) fn read(section: &mut Section<'_>) -> Option<Listen> {
    let default = Listen::default();
    let grpc = section.or("grpc", default.grpc, value::socket);
    let http = section.or("http", default.http, value::socket);
    let reflection = section.or("reflection", default.reflection, value::flag);
    let metrics = section.optional("metrics", value::socket);
    let listen = Listen { grpc: grpc?, http: http?, metrics: metrics?, reflection: reflection? };
    if listen.grpc == listen.http && listen.grpc.port() != 0 {
        return section.refuse("", "has one address for `grpc` and `http`; give each its own port");
    }
    let taken = [listen.grpc, listen.http];
    if listen.metrics.is_some_and(|metrics| metrics.port() != 0 && taken.contains(&metrics)) {
        return section
            .refuse("metrics", "is the address of `grpc` or `http`; give it its own port");
    }
    if listen.reflection && !listen.grpc.ip().is_loopback() {
        let text =
            "is on, and others than this machine reach `grpc`; listen on 127.0.0.1 or turn it off";
        return section.refuse("reflection", text);
    }
    Some(listen)
}

pub(super) fn tls(section: &mut Section<'_>) -> Option<CertificateFiles> {
    let cert_file = section.required("cert_file", "cert_file = \"tls/broker.pem\"", value::file);
    let key_file = section.required("key_file", "key_file = \"tls/broker.key\"", value::file);
    Some(CertificateFiles { cert_file: cert_file?, key_file: key_file? })
}
