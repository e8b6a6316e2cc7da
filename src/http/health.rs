//! Whether the process lives, whether it can work, and its numbers. Nothing more is said (THREATS.md class 19).

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use super::Parts;

/// The process lives.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The store is open and the keys are loaded.
pub(super) async fn readyz(State(parts): State<Parts>) -> impl IntoResponse {
    if *parts.is_ready.borrow() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// Prometheus' text format, version 0.0.4.
pub(super) async fn numbers(State(parts): State<Parts>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], parts.metrics.render())
}
