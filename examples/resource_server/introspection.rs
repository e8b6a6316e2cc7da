//! The broker is asked about every token (RFC 7662): what it answers is true at that moment, and costs a call each time.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::Response;
use serde_json::Value;

use crate::Arguments;
use crate::published_keys::{Denied, PublishedKeys};

/// Asks the broker.
#[derive(Clone)]
pub(crate) struct Introspection {
    web: reqwest::Client,
    url: String,
    published: PublishedKeys,
}

impl Introspection {
    /// Asks the broker at the issuer's base URL, about tokens that the published keys have nothing against.
    pub(crate) fn new(
        web: reqwest::Client,
        arguments: &Arguments,
        published: PublishedKeys,
    ) -> Self {
        Self { web, url: format!("{}/oauth2/introspect", arguments.issuer), published }
    }

    /// Whatever is not a clear yes is a no.
    async fn ask(&self, token: &str) -> Result<(), Denied> {
        // A token that was verified has no character that a form would have to escape.
        let form = self.web.post(&self.url).body(format!("token={token}"));
        let asked = form.header(CONTENT_TYPE, "application/x-www-form-urlencoded").send().await;
        let asked = asked.and_then(reqwest::Response::error_for_status);
        let away = |_| Denied(StatusCode::SERVICE_UNAVAILABLE, "the broker cannot be asked now");
        let answer: Value = asked.map_err(away)?.json().await.map_err(away)?;
        if answer.get("active") == Some(&Value::Bool(true)) {
            return Ok(());
        }
        Err(Denied(StatusCode::UNAUTHORIZED, "the broker says that the token is not active"))
    }
}

/// Lets in whose token is as it should be, and living by the broker's word.
pub(crate) async fn by_introspection(
    State(introspection): State<Introspection>,
    request: Request,
    next: Next,
) -> Result<Response, Denied> {
    let token = introspection.published.check(&request)?.to_owned();
    introspection.ask(&token).await?;
    Ok(next.run(request).await)
}
