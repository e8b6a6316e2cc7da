//! An agent whose Workload API says what the test wants it to, on a Unix socket.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream::{BoxStream, StreamExt as _, unfold};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Request, Response, Status};

use super::ca::{Issued, TestAuthority};
use crate::proto::workload_api::spiffe_workload_api_server::{
    SpiffeWorkloadApi, SpiffeWorkloadApiServer,
};
use crate::proto::workload_api::{
    JwtBundlesRequest, JwtBundlesResponse, X509BundlesRequest, X509BundlesResponse, X509svid,
    X509svidRequest, X509svidResponse,
};
use crate::spiffe::endpoint::WorkloadEndpoint;
use crate::workload_api::WorkloadApi;

/// What an agent answers on one of its streams, until that changes.
#[derive(Clone)]
pub enum Answer<T> {
    /// This message, and the next ones as they change.
    Says(T),
    /// Nothing; the stream stays open.
    IsSilent,
    /// This status, which ends the stream.
    Ends(Code),
}

/// An agent. Dropped, it stops, and its socket is gone.
pub struct FakeAgent {
    folder: TempDir,
    streams: Streams,
    running: Option<DropGuard>,
}

#[derive(Clone)]
struct Streams {
    x509: watch::Sender<Answer<X509BundlesResponse>>,
    jwt: watch::Sender<Answer<JwtBundlesResponse>>,
    svids: watch::Sender<Answer<X509svidResponse>>,
    /// Calls that came, with and without the header.
    calls: Arc<AtomicU64>,
}

impl FakeAgent {
    /// An agent that answers, and says nothing until it is told what.
    pub fn start() -> Self {
        let streams = Streams {
            x509: watch::Sender::new(Answer::IsSilent),
            jwt: watch::Sender::new(Answer::IsSilent),
            svids: watch::Sender::new(Answer::IsSilent),
            calls: Arc::default(),
        };
        let folder = tempfile::tempdir().unwrap();
        let mut agent = Self { folder, streams, running: None };
        agent.go_on();
        agent
    }

    /// Answers again.
    pub fn go_on(&mut self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let sockets = unfold(listener, |listener| async move {
            let (socket, _) = listener.accept().await.unwrap();
            Some((std::io::Result::Ok(socket), listener))
        });
        let stop = CancellationToken::new();
        let services = SpiffeWorkloadApiServer::new(self.streams.clone());
        let server = tonic::transport::Server::builder().add_service(services);
        let stopped = stop.clone();
        tokio::spawn(async move {
            // Dropped with its connections, as when a process dies.
            let _ = stopped.run_until_cancelled(server.serve_with_incoming(sockets)).await;
        });
        self.running = Some(stop.drop_guard());
    }

    /// Is gone with all its connections.
    pub fn go_away(&mut self) {
        self.running = None;
        std::fs::remove_file(self.socket()).unwrap();
    }

    /// Its Workload API.
    pub fn api(&self) -> WorkloadApi {
        WorkloadApi::at(self.endpoint()).unwrap()
    }

    /// Where that is.
    pub fn endpoint(&self) -> WorkloadEndpoint {
        WorkloadEndpoint::parse(&format!("unix://{}", self.socket().display())).unwrap()
    }

    /// How often anything was asked.
    pub fn calls(&self) -> u64 {
        self.streams.calls.load(Ordering::Relaxed)
    }

    /// Roots of X.509-SVIDs from now on, by trust domain: certificates in DER, one behind the other.
    pub fn x509(&self, bundles: &[(&str, &[u8])]) {
        self.x509_answer(Answer::Says(X509BundlesResponse { bundles: map(bundles) }));
    }

    /// The same, or something else than bundles.
    pub fn x509_answer(&self, answer: Answer<X509BundlesResponse>) {
        self.streams.x509.send_replace(answer);
    }

    /// Keys of JWT-SVIDs from now on, by trust domain: JWK sets.
    pub fn jwt(&self, bundles: &[(&str, &[u8])]) {
        self.jwt_answer(Answer::Says(JwtBundlesResponse { bundles: map(bundles) }));
    }

    /// The same, or something else than bundles.
    pub fn jwt_answer(&self, answer: Answer<JwtBundlesResponse>) {
        self.streams.jwt.send_replace(answer);
    }

    /// SVIDs for whoever asks from now on, each with the ID that the message says.
    pub fn svids(&self, svids: &[(&str, &Issued)]) {
        let svid = |(id, issued): &(&str, &Issued)| X509svid {
            spiffe_id: (*id).to_owned(),
            x509_svid: issued.chain.iter().flat_map(|der| der.to_vec()).collect(),
            x509_svid_key: issued.key_der().secret_der().to_vec(),
        };
        let svids = svids.iter().map(svid).collect();
        self.svids_answer(Answer::Says(X509svidResponse { svids }));
    }

    /// The same, or something else than SVIDs.
    pub fn svids_answer(&self, answer: Answer<X509svidResponse>) {
        self.streams.svids.send_replace(answer);
    }

    fn socket(&self) -> PathBuf {
        Path::new(self.folder.path()).join("agent.sock")
    }
}

/// Roots as an agent writes them.
pub fn concatenated(roots: &[&TestAuthority]) -> Vec<u8> {
    roots.iter().flat_map(|root| root.der().to_vec()).collect()
}

fn map(bundles: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    let entry = |(domain, bytes): &(&str, &[u8])| (format!("spiffe://{domain}"), bytes.to_vec());
    bundles.iter().map(entry).collect()
}

impl Streams {
    fn answer<Q, T: Clone + Send + Sync + 'static>(
        &self,
        request: &Request<Q>,
        answers: &watch::Sender<Answer<T>>,
    ) -> Result<Response<BoxStream<'static, Result<T, Status>>>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let header = request.metadata().get("workload.spiffe.io");
        if header.is_none_or(|value| value != "true") {
            return Err(Status::invalid_argument("security header missing from request"));
        }
        let mut answers = answers.subscribe();
        answers.mark_changed();
        let stream = unfold(answers, |mut answers| async move {
            loop {
                answers.changed().await.ok()?;
                let answer = answers.borrow_and_update().clone();
                match answer {
                    Answer::Says(message) => return Some((Ok(message), answers)),
                    Answer::Ends(code) => {
                        return Some((Err(Status::new(code, "as the test wants")), answers));
                    }
                    Answer::IsSilent => {}
                }
            }
        });
        Ok(Response::new(stream.boxed()))
    }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Streams {
    type FetchX509SVIDStream = BoxStream<'static, Result<X509svidResponse, Status>>;
    type FetchX509BundlesStream = BoxStream<'static, Result<X509BundlesResponse, Status>>;
    type FetchJWTBundlesStream = BoxStream<'static, Result<JwtBundlesResponse, Status>>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        self.answer(&request, &self.svids)
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        self.answer(&request, &self.x509)
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        self.answer(&request, &self.jwt)
    }
}
