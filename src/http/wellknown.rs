//! Public documents: keys and metadata, for whoever checks our credentials.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::Parts;
use crate::jose::{FOREIGN_ALGORITHMS, base64url};
use crate::spiffe::task_jwt_svid;

/// Where the access tokens' keys are.
pub(super) const JWKS: &str = "/oauth2/jwks";
/// Where the JWT-SVIDs' keys are.
pub(super) const SPIFFE_KEYS: &str = "/spiffe/keys";
/// Where the security events' keys are.
pub(super) const EVENT_KEYS: &str = "/events/keys";
/// A key is published an hour before it signs, so a copy may be minutes old.
const CACHE_CONTROL: &str = "public, max-age=300";

/// The JWK set of the access tokens' keys (RFC 7517 section 5).
pub(super) async fn jwks(State(parts): State<Parts>, headers: HeaderMap) -> Response {
    let document = parts.broker.published_access_token_keys().to_document();
    publish(&document.to_string(), "application/jwk-set+json", &headers)
}

/// The bundle of our trust domain (SPIFFE Trust Domain and Bundle section 4).
pub(super) async fn spiffe_bundle(State(parts): State<Parts>, headers: HeaderMap) -> Response {
    let document = parts.broker.published_bundle().to_document();
    publish(&document.to_string(), "application/json", &headers)
}

/// The JWK set of the JWT-SVIDs' keys, for whoever knows OpenID Connect and not SPIFFE.
pub(super) async fn spiffe_keys(State(parts): State<Parts>, headers: HeaderMap) -> Response {
    let document = parts.broker.published_jwt_svid_keys().to_document();
    publish(&document.to_string(), "application/jwk-set+json", &headers)
}

/// The JWK set of the security events' keys, for receivers of webhooks.
pub(super) async fn event_keys(State(parts): State<Parts>, headers: HeaderMap) -> Response {
    let document = parts.broker.published_security_event_keys().to_document();
    publish(&document.to_string(), "application/jwk-set+json", &headers)
}

/// OpenID Connect Discovery 1.0 section 3 for the issuer of JWT-SVIDs: what clouds ask for who take identity tokens.
pub(super) async fn spiffe_configuration(
    State(parts): State<Parts>,
    headers: HeaderMap,
) -> Response {
    let base = &parts.broker.settings().issuer;
    let document = json!({
        "issuer": task_jwt_svid::issuer(base),
        "jwks_uri": format!("{base}{SPIFFE_KEYS}"),
        // Required, though nobody logs in here; clouds look for `id_token`.
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "claims_supported": ["iss", "sub", "aud", "iat", "nbf", "exp", "jti"],
    });
    publish(&document.to_string(), "application/json", &headers)
}

/// OpenID Connect Discovery 1.0 section 3, as far as it is about checking tokens: nobody logs in here.
pub(super) async fn openid_configuration(
    State(parts): State<Parts>,
    headers: HeaderMap,
) -> Response {
    let mut document = metadata(&parts.broker.settings().issuer);
    if let Value::Object(members) = &mut document {
        members.insert("subject_types_supported".into(), json!(["public"]));
        members.insert("id_token_signing_alg_values_supported".into(), json!(["ES256"]));
    }
    publish(&document.to_string(), "application/json", &headers)
}

/// RFC 8414 section 2.
pub(super) async fn authorization_server(
    State(parts): State<Parts>,
    headers: HeaderMap,
) -> Response {
    let document = metadata(&parts.broker.settings().issuer);
    publish(&document.to_string(), "application/json", &headers)
}

fn metadata(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}{JWKS}"),
        "introspection_endpoint": format!("{issuer}/oauth2/introspect"),
        "introspection_endpoint_auth_methods_supported": ["tls_client_auth", "Bearer"],
        "revocation_endpoint": format!("{issuer}/oauth2/revoke"),
        "revocation_endpoint_auth_methods_supported": ["none"],
        "response_types_supported": ["none"],
        "authorization_details_types_supported": ["resource_access"],
        "tls_client_certificate_bound_access_tokens": true,
        "dpop_signing_alg_values_supported": dpop_algorithms(),
    })
}

/// Algorithms of DPoP proofs (RFC 9449 section 5.1).
fn dpop_algorithms() -> Vec<String> {
    FOREIGN_ALGORITHMS.iter().map(|algorithm| format!("{algorithm:?}")).collect()
}

/// A document with its tag; nothing but the tag if the client has it already (RFC 9110 section 13.1.2).
fn publish(document: &str, media_type: &'static str, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", base64url::encode(digest(&SHA256, document.as_bytes())));
    let is_known = is_known(&tag, headers);
    let fixed = [(header::CACHE_CONTROL, CACHE_CONTROL.to_owned()), (header::ETAG, tag)];
    if is_known {
        return (StatusCode::NOT_MODIFIED, fixed).into_response();
    }
    let kind = [(header::CONTENT_TYPE, media_type)];
    (StatusCode::OK, fixed, kind, document.to_owned()).into_response()
}

/// Whether the client has what this tag names.
pub(super) fn is_known(tag: &str, headers: &HeaderMap) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    known.flat_map(|tags| tags.split(',')).any(|known| known.trim() == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_is_sent_again_only_if_it_changed() {
        let first = publish("{}", "application/json", &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[header::ETAG].clone();
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, tag.clone());
        let again = publish("{}", "application/json", &headers);
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(again.headers()[header::ETAG], tag);
        assert_eq!(publish("{1}", "application/json", &headers).status(), StatusCode::OK);
    }

    #[test]
    fn every_endpoint_of_the_metadata_lies_under_the_issuer() {
        let document = metadata("https://leasehold.example:7701");
        assert_eq!(document["issuer"], "https://leasehold.example:7701");
        for member in ["jwks_uri", "introspection_endpoint", "revocation_endpoint"] {
            let url = document[member].as_str().unwrap();
            assert!(url.starts_with("https://leasehold.example:7701/oauth2/"), "{url}");
        }
    }
}
