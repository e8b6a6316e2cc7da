//! Revocation lists (RFC 5280 section 5), where certificates of long life say that they are.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Parts;
use super::fault::Fault;
use super::wellknown::is_known;

/// Whoever keeps a copy asks whether it is the newest: its age counts from when the broker read, not from here.
const CACHE_CONTROL: &str = "no-cache";
/// RFC 2585 section 4.2.
const MEDIA_TYPE: &str = "application/pkix-crl";

/// The list of the authority that the file is named after: its subject key identifier in lower-case hex, and `.crl`.
pub(super) async fn revocation_list(
    State(parts): State<Parts>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let list = match file.strip_suffix(".crl") {
        Some(key_id) => parts.broker.revocation_list(key_id).await?,
        None => None,
    };
    let Some(list) = list else { return Ok(StatusCode::NOT_FOUND.into_response()) };
    let tag = format!("\"{}\"", list.number);
    let is_known = is_known(&tag, &headers);
    let fixed = [(header::CACHE_CONTROL, CACHE_CONTROL.to_owned()), (header::ETAG, tag)];
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, fixed).into_response());
    }
    let body = Bytes::from_owner(list.der);
    Ok((StatusCode::OK, fixed, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response())
}
