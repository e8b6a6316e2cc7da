//! The resource server of the story: documents over mutual TLS, for whoever holds a living credential.
//!
//! ```text
//!  /documents             token: signature, audience, key of the connection, action; then the broker is asked
//!  /certificate/documents the connection's certificate is the credential: its chain; then the broker is asked
//!  /unasked/documents     as the first, but nobody is asked: what a server sees that only checks signatures
//!  /followed/documents    by the verifier library: nobody is asked, and it knows what is revoked
//! ```
//!
//! It knows the broker by what the broker publishes, by introspection, and by what it tells verifiers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::Caller;
use super::setup::SetupError;
use crate::broker::seams::{Clock, SystemClock};
use crate::domain::grant::Grant;
use crate::domain::time::Stamp;
use crate::identity::VerifiedCaller;
use crate::identity::bundle_files::{BundleFile, BundleFiles};
use crate::identity::client_cert::SvidClientVerifier;
use crate::identity::peer::PeerSvid;
use crate::identity::trust_bundle::SharedBundles;
use crate::jose::KeySet;
use crate::jose::access_token::{self, Confirmation};
use crate::listen::connections::{self, Limits, PeerInfo};
use crate::listen::serve::{ConnectionLimits, serve};
use crate::listen::tls::{ServerIdentity, server_config};
use crate::playground::{AUDIENCE, BROKER_TRUST_DOMAIN, Playground, TRUST_DOMAIN, Workload};
use crate::proto::v1::IntrospectCredentialRequest;
use crate::proto::v1::introspect_credential_request::Credential;
use crate::spiffe::id::TrustDomain;
use crate::verifier::{Guard, Identity, PeerCertificate, Settings, Verifier};

/// What reading a document needs.
const ACTION: &str = "read";
/// Longer nobody waits for what the broker tells verifiers.
const PATIENCE: Duration = Duration::from_secs(10);

/// The running server.
pub(super) struct DocumentsApi {
    /// Where it answers.
    pub(super) address: SocketAddr,
    stop: CancellationToken,
    running: TaskTracker,
}

/// What it checks credentials with.
struct Desk {
    /// `iss` of the broker's tokens.
    issuer: String,
    /// The broker's JWK set.
    keys: KeySet,
    /// Roots of callers, and of certificates for tasks.
    bundles: SharedBundles,
    /// Asks the broker.
    broker: Caller,
    clock: Arc<dyn Clock>,
}

/// Why nobody gets a document.
struct Denied(StatusCode, &'static str);

impl DocumentsApi {
    /// Reads what the broker publishes and tells verifiers, and begins to answer.
    pub(super) async fn start(
        playground: &Playground,
        (base_url, grpc): (&str, SocketAddr),
        broker: Caller,
    ) -> Result<Self, SetupError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let keys = fetch(&broker, &format!("{base_url}/oauth2/jwks")).await?;
        let keys = KeySet::parse(&keys).map_err(|fault| SetupError::Document(fault.to_string()))?;
        let bundle = fetch(&broker, &format!("{base_url}/spiffe/bundle.json")).await?;
        let bundles = bundles(playground, &bundle, clock.now())?;
        let identity = ServerIdentity::from_files(
            &playground.cert_file(Workload::Documents),
            &playground.key_file(Workload::Documents),
        )?;
        let clients = Arc::new(SvidClientVerifier::new(Arc::clone(&bundles)));
        let tls =
            server_config(Arc::new(identity), clients, &["h2", "http/1.1"], Arc::clone(&clock))?;
        let verifier = follow(playground, grpc).await?;
        let desk = Desk { issuer: base_url.to_owned(), keys, bundles, broker, clock };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(SetupError::Socket)?;
        let address = listener.local_addr().map_err(SetupError::Socket)?;
        let connections =
            connections::connections(connections::sockets(listener), tls, Limits::default());
        let (stop, running) = (CancellationToken::new(), TaskTracker::new());
        let limits = ConnectionLimits::default();
        running.spawn(serve(router(desk, verifier), connections, limits, stop.clone()));
        running.close();
        Ok(Self { address, stop, running })
    }

    /// Stops, after the requests that run.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.running.wait().await;
    }
}

fn router(desk: Desk, verifier: Verifier) -> Router {
    let guard = Guard::new(verifier, &[ACTION]).with_peer(|extensions| {
        let peer = extensions.get::<PeerInfo>()?.svid.as_ref()?;
        peer.leaf().map(PeerCertificate::new)
    });
    let followed =
        Router::new().route("/followed/documents", get(async || document())).layer(guard);
    Router::new()
        .route("/documents", get(by_token))
        .route("/certificate/documents", get(by_certificate))
        .route("/unasked/documents", get(by_signature))
        .with_state(Arc::new(desk))
        .merge(followed)
}

/// Follows what the broker revokes, once it has told what was.
async fn follow(playground: &Playground, grpc: SocketAddr) -> Result<Verifier, SetupError> {
    let identity = Identity {
        ca_file: playground.root_file(),
        cert_file: playground.cert_file(Workload::Documents),
        key_file: playground.key_file(Workload::Documents),
    };
    let verifier = Verifier::start(Settings::new([format!("https://{grpc}")], identity, AUDIENCE))?;
    let ready = tokio::time::timeout(PATIENCE, verifier.ready()).await;
    ready.map_err(|_| SetupError::Silent)?;
    Ok(verifier)
}

async fn by_token(State(desk): State<Arc<Desk>>, request: Request) -> Result<Json<Value>, Denied> {
    let (token, _) = desk.check_token(&request)?;
    desk.ask(Credential::Token(token)).await.map(|_| document())
}

async fn by_signature(
    State(desk): State<Arc<Desk>>,
    request: Request,
) -> Result<Json<Value>, Denied> {
    let (_, expires_seconds) = desk.check_token(&request)?;
    let Json(mut document) = document();
    if let Some(document) = document.as_object_mut() {
        document.insert("accepted_until".to_owned(), expires_seconds.into());
    }
    Ok(Json(document))
}

async fn by_certificate(
    State(desk): State<Arc<Desk>>,
    request: Request,
) -> Result<Json<Value>, Denied> {
    let (peer, caller) = desk.caller(&request)?;
    if caller.principal().trust_domain() != Some(BROKER_TRUST_DOMAIN) {
        return Err(Denied(StatusCode::FORBIDDEN, "the certificate is not one for a task"));
    }
    let der = peer.leaf().map(|leaf| leaf.to_vec()).unwrap_or_default();
    let claims = desk.ask(Credential::CertificateDer(der)).await?;
    let details = claims.get("authorization_details").map(Value::to_string).unwrap_or_default();
    let is_for_us = claims.get("aud").and_then(Value::as_str) == Some(AUDIENCE);
    match Grant::parse(&details) {
        Ok(grant) if is_for_us && allows(&grant) => Ok(document()),
        _ => Err(Denied(StatusCode::FORBIDDEN, "the lease does not allow reading documents")),
    }
}

impl Desk {
    /// The token, and until when it lives by its own words. All that can be known without asking: who signed it, for whom it is, who may
    /// show it, what it allows.
    fn check_token(&self, request: &Request) -> Result<(String, u64), Denied> {
        let (_, caller) = self.caller(request)?;
        let token = bearer(request.headers()).ok_or(unauthorized("there is no bearer token"))?;
        let checked = access_token::verify(token, &self.keys, &self.issuer, self.clock.now())
            .map_err(|_| unauthorized("the token is not a valid one of the broker"))?;
        // RFC 8705 section 3: a token that is bound to another key has been stolen. So has one, here, that is bound to a DPoP
        // key: it is never good as a bearer token (RFC 9449 section 7.2).
        let shown = caller.certificate_thumbprint().map(Confirmation::Certificate);
        if checked.confirmation.is_none() || checked.confirmation != shown {
            return Err(unauthorized("the token is bound to another key"));
        }
        if checked.audience != AUDIENCE || !allows(&checked.grant) {
            return Err(Denied(
                StatusCode::FORBIDDEN,
                "the token does not allow reading documents",
            ));
        }
        Ok((token.to_owned(), checked.expires_seconds))
    }

    fn caller(&self, request: &Request) -> Result<(Arc<PeerSvid>, VerifiedCaller), Denied> {
        let peer = request.extensions().get::<PeerInfo>().and_then(|peer| peer.svid.clone());
        let peer = peer.ok_or(unauthorized("the connection shows no certificate"))?;
        let caller = peer.recheck(&self.bundles.load(), self.clock.now());
        let caller = caller.map_err(|_| unauthorized("the certificate is not valid any more"))?;
        Ok((peer, caller))
    }

    /// Asks the broker; whatever is not a clear yes is a no.
    async fn ask(&self, credential: Credential) -> Result<Value, Denied> {
        let request = IntrospectCredentialRequest { credential: Some(credential) };
        let answer = self.broker.verification().introspect_credential(request).await;
        let answer = answer.map_err(|_| {
            Denied(StatusCode::SERVICE_UNAVAILABLE, "the broker cannot be asked; try again")
        })?;
        let answer = answer.into_inner();
        if !answer.active {
            return Err(unauthorized("the credential is not active"));
        }
        serde_json::from_str(&answer.claims)
            .map_err(|_| unauthorized("the broker's answer is not understood"))
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let Self(status, why) = self;
        let challenge = [(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")];
        let body = Json(json!({ "error": why }));
        match status {
            StatusCode::UNAUTHORIZED => (status, challenge, body).into_response(),
            _ => (status, body).into_response(),
        }
    }
}

fn unauthorized(why: &'static str) -> Denied {
    Denied(StatusCode::UNAUTHORIZED, why)
}

fn document() -> Json<Value> {
    Json(json!({ "title": "Q3 report", "text": "Revenue is up; so is the number of agents." }))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn allows(grant: &Grant) -> bool {
    let mut entries = grant.entries().iter();
    entries.any(|entry| entry.audience() == AUDIENCE && entry.actions().contains(ACTION))
}

/// The workloads' root, and the broker's for certificates for tasks.
fn bundles(
    playground: &Playground,
    published: &[u8],
    now: Stamp,
) -> Result<SharedBundles, SetupError> {
    let domain =
        |name| TrustDomain::parse(name).map_err(|fault| SetupError::Document(fault.to_string()));
    let broker = playground.add("leasehold.bundle.json", published)?;
    let files = vec![
        BundleFile { trust_domain: domain(TRUST_DOMAIN)?, path: playground.root_file() },
        BundleFile { trust_domain: domain(BROKER_TRUST_DOMAIN)?, path: broker },
    ];
    // The server mints nothing, so no trust domain is its own.
    Ok(BundleFiles::alone(&domain("none")?, files, now)?.shared())
}

async fn fetch(caller: &Caller, url: &str) -> Result<Vec<u8>, SetupError> {
    let fault = |fault| SetupError::Fetch(url.to_owned(), fault);
    let answer = caller.web.get(url).send().await.and_then(reqwest::Response::error_for_status);
    Ok(answer.map_err(fault)?.bytes().await.map_err(fault)?.to_vec())
}
