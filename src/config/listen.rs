//! `listen` and `tls`: where the broker answers, and as whom.

use std::net::{Ipv4Addr, SocketAddr};

use super::section::Section;
use super::store::CertificateFiles;
use super::value;
use crate::spiffe::endpoint::WorkloadEndpoint;
use crate::spiffe::id::SpiffeId;

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

/// Where the broker's own certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// Files, read again when they change.
    Files(CertificateFiles),
    /// The Workload API, which renews it.
    WorkloadApi {
        /// Where it answers.
        endpoint: WorkloadEndpoint,
        /// Which SVID, if it has several for this process; `None`: its first.
        spiffe_id: Option<SpiffeId>,
    },
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

/// `cert_file` and `key_file`, or `workload_api`: one of them (THREATS.md class 12).
pub(super) fn tls(section: &mut Section<'_>) -> Option<CertificateSource> {
    let workload_api = section.optional("workload_api", value::workload_endpoint);
    let spiffe_id = section.optional("spiffe_id", value::spiffe_id);
    if let (Some(None), Some(None)) = (&workload_api, &spiffe_id) {
        return files(section).map(CertificateSource::Files);
    }
    let paths = ["cert_file", "key_file"].map(|key| section.optional(key, value::path).flatten());
    match (workload_api?, spiffe_id?) {
        (Some(endpoint), spiffe_id) if paths == [None, None] => {
            Some(CertificateSource::WorkloadApi { endpoint, spiffe_id })
        }
        (Some(_), _) => {
            let text = "stands beside files; keep it, or `cert_file` and `key_file`";
            section.refuse("workload_api", text)
        }
        (None, _) => {
            let text = "chooses among what a Workload API gives; add `workload_api`, or remove it";
            section.refuse("spiffe_id", text)
        }
    }
}

fn files(section: &mut Section<'_>) -> Option<CertificateFiles> {
    let cert_file = section.required("cert_file", "cert_file = \"tls/broker.pem\"", value::file);
    let key_file = section.required("key_file", "key_file = \"tls/broker.key\"", value::file);
    Some(CertificateFiles { cert_file: cert_file?, key_file: key_file? })
}
