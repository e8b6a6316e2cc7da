//! HTTP: OAuth endpoints, public documents, health and metrics.

mod fault;
mod health;
mod oauth;
mod revocation_list;
mod room;
mod wellknown;

pub use fault::Fault;
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

/// The router of every endpoint; the numbers are among them unless they have a socket of their own.
pub fn router(parts: Parts, limits: HttpLimits, has_numbers: bool) -> Router {
    let routes = if has_numbers { with_numbers(health()) } else { health() };
    let routes = routes
        .route("/oauth2/introspect", post(oauth::introspect))
        .route("/oauth2/revoke", post(oauth::revoke))
        .route(wellknown::JWKS, get(wellknown::jwks))
        .route("/.well-known/openid-configuration", get(wellknown::openid_configuration))
        .route("/.well-known/oauth-authorization-server", get(wellknown::authorization_server))
        .route("/crl/{file}", get(revocation_list::revocation_list))
        .route("/spiffe/bundle.json", get(wellknown::spiffe_bundle))
        .route(wellknown::SPIFFE_KEYS, get(wellknown::spiffe_keys))
        .route(wellknown::EVENT_KEYS, get(wellknown::event_keys))
        .route("/spiffe/.well-known/openid-configuration", get(wellknown::spiffe_configuration));
    bounded(routes, parts, limits)
}

/// The router of the numbers' own socket: those, and health.
pub fn numbers(parts: Parts, limits: HttpLimits) -> Router {
    bounded(with_numbers(health()), parts, limits)
}

fn with_numbers(routes: Router<Parts>) -> Router<Parts> {
    routes.route("/metrics", get(health::numbers))
}

fn health() -> Router<Parts> {
    Router::new().route("/healthz", get(health::healthz)).route("/readyz", get(health::readyz))
}

fn bounded(routes: Router<Parts>, parts: Parts, limits: HttpLimits) -> Router {
    let room = Arc::new(room::Room::new(limits));
    routes
        .with_state(parts)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(room, room::pass))
}
