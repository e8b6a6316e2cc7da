//! The sidecar: what the verifier library does, for whoever cannot link it.
//!
//! ```text
//!  POST /v1/verify  ──────────────────────┐               ┌─▶ Lingering: runs until the longest request is over
//!  envoy.service.auth.v3 … Check ─────────┼─▶ Verifier ───┤
//!  POST /v1/admit, open while work runs ──┘               └─▶ Held: runs until the caller hangs up
//! ```
//!
//! Whoever reaches its socket may ask it: the socket's mode is the only lock. A question and its answer are one check at one
//! instant, as with the library; [`docs/how-to/resource-server-sidecar.md`] is the contract of the calls.

mod call;
mod door;
mod ext_authz;
mod held;
mod lingering;
mod question;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::door::Door;
use self::lingering::Lingering;
use crate::domain::time::Span;
use crate::telemetry::metrics;
use crate::verifier::Verifier;

/// It is ready while its view is younger than this: the Δ of most tiers (FORMATS.md, Numbers).
const FRESH: Span = Span::from_seconds(5);
/// How often its numbers are brought up to date.
const NUMBERS_INTERVAL: Duration = Duration::from_secs(5);

/// How a sidecar answers.
#[derive(Clone, Debug)]
pub struct Options {
    /// No request that was let in by an answer without an end runs longer; the server, or the proxy before it, sees to that.
    pub longest_request: Duration,
    /// Whether the server behind Envoy is to see the token and its proof.
    pub passes_credentials: bool,
    /// Credentials of which something may run at once that has no end of its own.
    pub lingering: usize,
    /// Requests at once that are let in until their caller hangs up.
    pub held: usize,
    /// Connections of each socket at once; more wait.
    pub connections: usize,
    /// How long a peer may take to ask for the first time, for the headers of each request, and for a question of Envoy's.
    pub patience: Duration,
    /// How long what runs may go on once the sidecar is told to stop.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            longest_request: Duration::from_secs(60),
            passes_credentials: false,
            lingering: 262_144,
            held: 3_072,
            connections: 4_096,
            patience: Duration::from_secs(10),
            grace: Duration::from_secs(10),
        }
    }
}

/// A verifier that answers others. Clones are one.
#[derive(Clone)]
pub struct Sidecar {
    parts: Arc<Parts>,
}

struct Parts {
    verifier: Verifier,
    options: Options,
    lingering: Lingering,
    held: Arc<Semaphore>,
    numbers: metrics::Handle,
}

impl Sidecar {
    /// Answers by what a verifier knows.
    pub fn new(verifier: Verifier, options: Options, numbers: metrics::Handle) -> Self {
        let lingering = Lingering::new(options.longest_request, options.lingering);
        let held = Arc::new(Semaphore::new(options.held));
        Self { parts: Arc::new(Parts { verifier, options, lingering, held, numbers }) }
    }

    /// Answers at every door until `stop`, then lets what runs end within the grace period.
    pub async fn serve(self, doors: Vec<Door>, stop: CancellationToken) {
        let router = self.router();
        let mut upkeep = JoinSet::new();
        let (sweeping, counting) = (self.clone(), self.clone());
        upkeep.spawn(async move { sweeping.parts.lingering.sweep().await });
        upkeep.spawn(async move { counting.count().await });
        let mut open = JoinSet::new();
        for door in doors {
            let (router, options, stop) =
                (router.clone(), self.parts.options.clone(), stop.clone());
            open.spawn(async move { door.serve(router, &options, stop).await });
        }
        let mut cut_off = Vec::new();
        while let Some(ended) = open.join_next().await {
            cut_off.extend(ended.ok());
        }
        // INVARIANT (cut off is not over): the brokers hear no more of us before the admissions go with what holds them.
        self.parts.verifier.stop().await;
    }

    fn router(&self) -> Router {
        Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(numbers))
            .route("/v1/verify", post(verify))
            .route("/v1/admit", post(admit))
            .route(ext_authz::PATH, post(check))
            .with_state(self.clone())
    }

    async fn count(&self) {
        let mut interval = tokio::time::interval(NUMBERS_INTERVAL);
        loop {
            interval.tick().await;
            self.measure();
            self.parts.numbers.fold();
        }
    }

    fn measure(&self) {
        let free = self.parts.held.available_permits();
        let held = self.parts.options.held.saturating_sub(free);
        metrics::sidecar_view_age(self.parts.verifier.age().map(Span::to_std));
        metrics::sidecar_running(held, self.parts.lingering.len());
    }
}

impl std::fmt::Debug for Sidecar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sidecar({:?})", self.parts.verifier)
    }
}

async fn verify(State(sidecar): State<Sidecar>, request: Request) -> axum::response::Response {
    sidecar.verify(request).await
}

async fn admit(State(sidecar): State<Sidecar>, request: Request) -> axum::response::Response {
    sidecar.admit(request).await
}

async fn check(State(sidecar): State<Sidecar>, request: Request) -> axum::response::Response {
    sidecar.ext_authz(request).await
}

/// It has the broker's keys, and a view that is fresh.
async fn readyz(State(sidecar): State<Sidecar>) -> impl IntoResponse {
    let verifier = &sidecar.parts.verifier;
    let not = |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n"));
    match (verifier.checker().trust(), verifier.age()) {
        (None, _) => not("no broker has told its keys yet".to_owned()),
        (_, None) => not("no broker has told what is revoked yet".to_owned()),
        (_, Some(age)) if age >= FRESH => {
            not(format!("what is known of revocations is {} ms old", age.millis()))
        }
        _ => (StatusCode::OK, "ready\n".to_owned()),
    }
}

/// Prometheus' text format, version 0.0.4.
async fn numbers(State(sidecar): State<Sidecar>) -> impl IntoResponse {
    sidecar.measure();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], sidecar.parts.numbers.render())
}
