//! HTTP: OAuth endpoints, public documents, health and metrics.

mod fault;
mod health;
mod oauth;
mod room;
mod wellknown;

pub use room::HttpLimits;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tokio::sync::watch;

use crate::broker::Broker;
use crate::identity::authn::Authenticator;
use crate::telemetry::metrics;

/// Only a token of 8 KiB at most is ever sent, percent-encoded.
const MAX_BODY_BYTES: usize = 32 * 1024;

/// What the handlers need.
#[derive(Clone)]
pub struct Parts {
    /// The verbs.
    pub broker: Arc<Broker>,
    /// Who calls.
    pub authenticator: Arc<Authenticator>,
    /// Whether the store is open and the keys are loaded.
    pub is_ready: watch::Receiver<bool>,
    /// The process's numbers.
    pub metrics: metrics::Handle,
}

/// The router of every endpoint.
pub fn router(parts: Parts, limits: HttpLimits) -> Router {
    let room = Arc::new(room::Room::new(limits));
    Router::new()
        .route("/oauth2/introspect", post(oauth::introspect))
        .route("/oauth2/revoke", post(oauth::revoke))
        .route(wellknown::JWKS, get(wellknown::jwks))
        .route("/.well-known/openid-configuration", get(wellknown::openid_configuration))
        .route("/.well-known/oauth-authorization-server", get(wellknown::authorization_server))
        .route("/spiffe/bundle.json", get(wellknown::spiffe_bundle))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::numbers))
        .with_state(parts)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(room, room::pass))
}
