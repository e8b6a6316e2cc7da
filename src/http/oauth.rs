//! Token introspection (RFC 7662) and revocation (RFC 7009).

use std::time::Duration;

use axum::Extension;
use axum::Json;
use axum::extract::{Form, FromRequest as _, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::Parts;
use super::fault::Fault;
use crate::broker::Presented;
use crate::broker::access::Rpc;
use crate::domain::secret::Secret;
use crate::listen::connections::PeerInfo;
use crate::listen::origin;

/// How soon the body has to be there: until then it holds a place that others wait for.
const BODY: Duration = Duration::from_secs(2);

/// The form of both requests. `token_type_hint` is not looked at: a wrong hint must not hide a token (RFC 7009 section 2.1).
#[derive(Deserialize)]
pub(super) struct Presentation {
    token: String,
}

impl Presentation {
    /// The token of a request's body, once and not empty.
    async fn token(request: Request) -> Result<Secret, Fault> {
        let problem = "send one `token` as application/x-www-form-urlencoded, at most 8 KiB";
        match timeout(BODY, Form::<Self>::from_request(request, &())).await {
            Ok(Ok(Form(form))) if !form.token.is_empty() => Ok(Secret::from(form.token)),
            // The rejection's own text is not repeated: it may hold a piece of what was sent.
            Ok(_) => Err(Fault::Form(problem.to_owned())),
            Err(_) => Err(Fault::Form("send the whole body within two seconds".to_owned())),
        }
    }
}

/// Whether a token is active now, for the verifier that its audience names. Who it is is judged before its body is waited for.
pub(super) async fn introspect(
    State(parts): State<Parts>,
    Extension(peer): Extension<PeerInfo>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Fault> {
    let now = parts.broker.now();
    let identity = parts.authenticator.authenticate(peer.svid.as_deref(), &headers, now).await?;
    let caller = parts.broker.caller(identity, Rpc::IntrospectCredential)?;
    let token = Presentation::token(request).await?;
    let answer = parts.broker.introspect(&caller, Presented::Token(token.expose_text())).await?;
    let body = answer.map_or_else(|| json!({ "active": false }), |active| active.claims);
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

/// Kills the lease of the token that is shown: who has a token may end it. Says the same of a token that is unknown. Whose turn it
/// is not is told so before his body is waited for.
pub(super) async fn revoke(
    State(parts): State<Parts>,
    Extension(peer): Extension<PeerInfo>,
    request: Request,
) -> Result<Response, Fault> {
    let stranger = parts.broker.stranger(origin(peer.address.ip()))?;
    let token = Presentation::token(request).await?;
    parts.broker.revoke_presented(stranger, token.expose_text()).await?;
    Ok((StatusCode::OK, [(header::CACHE_CONTROL, "no-store")]).into_response())
}
