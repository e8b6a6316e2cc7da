//! The layer before a service of HTTP or gRPC: it lets in who holds a living credential, and answers everybody else.
//!
//! ```text
//!  request ─▶ Authorization, DPoP, certificate ─▶ Verifier ─▶ the service, with the Admission in its extensions
//!                                                    └─▶ 401, 403, 503 with a challenge, or a gRPC status
//! ```

mod answer;
mod body;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

pub use self::body::GuardedBody;
use super::admission::Admission;
use super::check::{Presented, Scheme};
use super::handle::Verifier;
use super::peer::PeerCertificate;
use super::refused::Refused;

/// Which actions a request needs, by its method and path.
type Actions = dyn Fn(&Method, &str) -> &'static [&'static str] + Send + Sync;
/// Where the connection's certificate is found.
type Peer = dyn Fn(&Extensions) -> Option<PeerCertificate> + Send + Sync;

/// Lets requests through to a service whose token may do what they need.
///
/// The service finds an `Arc<Admission>` in the request's extensions, with the credential, and with a way to be told that it
/// died meanwhile. `Authorization` and `DPoP` are taken out of the request. The admission is kept until the body of the answer is over.
///
/// It reads the path that it sees: put it outside of routers that strip a prefix.
///
/// ```
/// use axum::Router;
/// use axum::routing::get;
/// use leasehold::verifier::{Guard, Verifier};
///
/// fn router(verifier: &Verifier) -> Router {
///     Router::new()
///         .route("/entries", get(async || "42"))
///         .layer(Guard::new(verifier.clone(), &["read"]))
/// }
/// ```
#[derive(Clone)]
pub struct Guard {
    verifier: Verifier,
    actions: Arc<Actions>,
    peer: Arc<Peer>,
}

impl Guard {
    /// Before a service of which every request needs these actions. With none, any living token for the audience is let in.
    pub fn new(verifier: Verifier, actions: &'static [&'static str]) -> Self {
        Self::by_request(verifier, move |_, _| actions)
    }

    /// Before a service whose requests need actions by method and path; a gRPC path is `/package.Service/Method`.
    pub fn by_request(
        verifier: Verifier,
        actions: impl Fn(&Method, &str) -> &'static [&'static str] + Send + Sync + 'static,
    ) -> Self {
        let peer = Arc::new(|extensions: &Extensions| extensions.get().cloned());
        Self { verifier, actions: Arc::new(actions), peer }
    }

    /// Finds the connection's certificate in another way than as a [`PeerCertificate`] in the request's extensions. With tonic's
    /// own TLS, that is `TlsConnectInfo`.
    #[must_use]
    pub fn with_peer(
        self,
        peer: impl Fn(&Extensions) -> Option<PeerCertificate> + Send + Sync + 'static,
    ) -> Self {
        Self { peer: Arc::new(peer), ..self }
    }

    async fn admit(&self, parts: &Parts) -> Result<Admission, (Refused, Scheme)> {
        let (scheme, token) = authorization(&parts.headers)?;
        let path = parts.uri.path();
        let proof = sole(&parts.headers, "dpop").map_err(|refused| (refused, scheme))?;
        let shown = Presented {
            scheme,
            token,
            certificate: (self.peer)(&parts.extensions).map(|peer| peer.thumbprint()),
            proof,
            request: (parts.method.as_str(), path),
            actions: (self.actions)(&parts.method, path),
        };
        self.verifier.admit(&shown).await.map_err(|refused| (refused, scheme))
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guard({:?})", self.verifier)
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { guard: self.clone(), inner }
    }
}

/// A service behind a [`Guard`].
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    guard: Guard,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: 'static,
{
    type Response = Response<GuardedBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let guard = self.guard.clone();
        // The one that said that it is ready.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            match guard.admit(&parts).await {
                Err((refused, scheme)) => {
                    let challenges = guard.verifier.challenges(&refused, scheme);
                    Ok(answer::to(&refused, &challenges, &parts.headers))
                }
                Ok(admission) => {
                    // The work behind has no use for them, and what it does not have it cannot pass on.
                    parts.headers.remove(AUTHORIZATION);
                    parts.headers.remove("dpop");
                    let admission = Arc::new(admission);
                    parts.extensions.insert(Arc::clone(&admission));
                    let response = inner.call(Request::from_parts(parts, body)).await?;
                    Ok(response.map(|body| GuardedBody::of(body, admission)))
                }
            }
        })
    }
}

/// Exactly one credential, by a scheme of ours.
fn authorization(headers: &HeaderMap) -> Result<(Scheme, &str), (Refused, Scheme)> {
    let bearer = |refused| (refused, Scheme::Bearer);
    let value = sole(headers, "authorization").map_err(bearer)?;
    Scheme::read(value.ok_or(bearer(Refused::Nothing))?)
}

/// The value of a header that must not come twice.
fn sole<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Refused> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(HeaderValue::to_str).transpose();
    match (value, values.next()) {
        (Ok(value), None) => Ok(value),
        (_, Some(_)) => Err(Refused::Malformed("a header with a credential or a proof came twice")),
        (Err(_), None) => Err(Refused::Malformed("it has characters that no token has")),
    }
}
