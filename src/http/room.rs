//! How many requests run at a time, how long each may take, and what is counted of them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::fault::Fault;
use crate::telemetry::metrics;

/// What requests may take of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// How long one may take, its body's arrival included.
    pub timeout: Duration,
    /// How many run at a time. Revocations have as many places again, of their own.
    pub in_flight: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), in_flight: 256 }
    }
}

/// The places that there are.
pub(super) struct Room {
    revocations: Semaphore,
    others: Semaphore,
    timeout: Duration,
}

impl Room {
    pub(super) fn new(limits: HttpLimits) -> Self {
        let places = || Semaphore::new(limits.in_flight);
        Self { revocations: places(), others: places(), timeout: limits.timeout }
    }

    /// A place. Revocations wait for theirs; whether the process lives is answered in any case.
    async fn enter(&self, path: &str) -> Result<Option<SemaphorePermit<'_>>, Fault> {
        match path {
            "/healthz" | "/readyz" => Ok(None),
            "/oauth2/revoke" => {
                self.revocations.acquire().await.map(Some).map_err(|_| Fault::NoRoom)
            }
            _ => self.others.try_acquire().map(Some).map_err(|_| Fault::NoRoom),
        }
    }
}

/// The middleware around every endpoint.
pub(super) async fn pass(State(room): State<Arc<Room>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let path = route(matched.as_deref());
    let answer = async {
        let _place = room.enter(path).await?;
        Ok(next.run(request).await)
    };
    let response = match tokio::time::timeout(room.timeout, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(fault)) => Fault::into_response(fault),
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    metrics::call_answered(path, code(response.status()), began.elapsed());
    response
}

/// The route's name for metrics; strangers choose paths, so what is no route has one name for all.
fn route(matched: Option<&str>) -> &'static str {
    const ROUTES: [&str; 13] = [
        "/oauth2/introspect",
        "/oauth2/revoke",
        "/oauth2/jwks",
        "/crl/{file}",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
        "/spiffe/bundle.json",
        "/spiffe/keys",
        "/events/keys",
        "/spiffe/.well-known/openid-configuration",
        "/healthz",
        "/readyz",
        "/metrics",
    ];
    ROUTES.into_iter().find(|route| Some(*route) == matched).unwrap_or("none")
}

fn code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200 => "200",
        304 => "304",
        400 => "400",
        401 => "401",
        404 => "404",
        405 => "405",
        408 => "408",
        429 => "429",
        503 => "503",
        _ => "other",
    }
}
