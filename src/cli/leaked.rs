//! `leasehold revoke --token`: somebody found a credential where it should not be.
//!
//! A token is a secret: who has it may end it, and needs no right besides (RFC 7009). A certificate is none, since every
//! server that it was shown to has it, so ending its lease takes an operator.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use x509_parser::parse_x509_certificate;
use zeroize::Zeroizing;

use super::client::Client;
use super::connection::Connection;
use super::failure::Failure;
use super::show::{self, Shown};
use super::token;
use super::waiting::Waiting;
use crate::broker::seams::{Clock as _, SystemClock};
use crate::domain::id::LeaseId;
use crate::domain::time::Stamp;
use crate::jose::access_token::{self, AccessTokenError};
use crate::jose::json::Object;
use crate::jose::{ClaimError, Claimed, KeySet, VerifyingKey};
use crate::proto::v1;
use crate::spiffe::bundle::Bundle;
use crate::spiffe::id::TrustDomain;
use crate::spiffe::task_extension;
use crate::spiffe::task_jwt_svid::{self, TaskJwtSvid, TaskJwtSvidError};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A credential that was found. Nothing of it is ever shown again.
enum Found {
    Token(Zeroizing<String>),
    /// The lease that it names.
    Certificate(LeaseId),
}

/// Ends the lease of what was found in a file; `-` is stdin.
pub(super) async fn revoke(
    file: &Path,
    reason: String,
    waiting: Waiting,
    connection: &Connection,
) -> Result<Shown, Failure> {
    let found = read(file)?;
    if matches!(found, Found::Token(_)) && (waiting.is_said() || !reason.is_empty()) {
        return Err(Failure::Usage(
            "nothing was ended: who ends a token by having it is nobody to the broker, which records no reason of theirs and has them wait for nothing. \
             Leave `--reason`, `--wait-for` and `--wait-timeout` out; or let an operator run `leasehold revoke lease` with them, once that is done"
                .to_owned(),
        ));
    }
    let client = connection.open().await?;
    match found {
        Found::Token(found) => by_possession(&found, &client, connection).await,
        Found::Certificate(lease) => as_operator(lease, reason, waiting, &client).await,
    }
}

fn read(file: &Path) -> Result<Found, Failure> {
    let text = token::read_token(file)?;
    if !token::is_pem(text.as_bytes()) {
        return Ok(Found::Token(text));
    }
    let leaf = token::certificate_in(file, text.as_bytes())?;
    lease_of(&leaf).map(Found::Certificate).ok_or_else(|| {
        nothing(file, "a certificate that no broker issued for a task: it has no lease")
    })
}

/// The lease that a certificate names, in whichever extension: the broker's configuration chooses its identifier.
fn lease_of(der: &[u8]) -> Option<LeaseId> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let mut extensions = certificate.extensions().iter();
    extensions.find_map(|extension| Some(task_extension::decode(extension.value).ok()?.lease))
}

fn nothing(file: &Path, what: &str) -> Failure {
    Failure::Usage(format!("`{}` holds {what}", file.display()))
}

async fn by_possession(
    found: &str,
    client: &Client,
    connection: &Connection,
) -> Result<Shown, Failure> {
    let mut call = client.verification();
    let trust = client.read(call.get_trust_bundle(v1::GetTrustBundleRequest {})).await?;
    let base = trust.issuer.clone();
    let is_compact = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let claimed = Claimed::of(found).filter(|_| found.chars().all(is_compact));
    let claimed = claimed.as_ref().and_then(Claimed::issuer);
    // To a stranger's token the endpoint says the same as to one that it has revoked: whoever found it would be deceived.
    match claimed {
        Some(issuer) if issuer == base || issuer.strip_suffix("/spiffe") == Some(base.as_str()) => {
        }
        Some(issuer) => {
            return Err(Failure::Usage(format!(
                "the token says that `{}` issued it, and this broker is `{base}`: tell the one that issued it",
                show::harmless(issuer)
            )));
        }
        None => {
            return Err(Failure::Usage(
                "what was read is no token of a broker: read the whole token, and nothing else; whoever issued something else must end it"
                    .to_owned(),
            ));
        }
    }
    let is_expired = judge(found, &trust, SystemClock::default().now())?;
    let url = format!("{base}/oauth2/revoke");
    let away = |problem: String| {
        Failure::Usage(format!(
            "`{url}` cannot be asked: {problem}; the token may still be alive. The address is the broker's `base_url`, and its certificate must be vouched for by `--ca`"
        ))
    };
    let web = web_client(connection)?;
    let form = web.post(&url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let answer = form.body(format!("token={found}")).send().await;
    // An error of the HTTP client names its URL, and never its body.
    let answer = answer.map_err(|error| away(error.without_url().to_string()))?;
    if answer.status() == StatusCode::TOO_MANY_REQUESTS {
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after = after.and_then(|seconds| seconds.parse::<u32>().ok()).unwrap_or(1);
        return Err(away(format!(
            "too many tokens were shown to it, from here or by all. Try again in {after} s, or let an operator run `leasehold revoke lease`, who is counted apart"
        )));
    }
    if !answer.status().is_success() {
        return Err(away(format!("it answers with status {}", answer.status().as_u16())));
    }
    if is_expired {
        return Err(Failure::Usage(
            "the token has expired, so nobody accepts it any more and nothing was ended by it; if its agent renewed it, the lease goes on: \
             an operator can end that by `leasehold revoke lease`"
                .to_owned(),
        ));
    }
    let text = "the token's lease is over, if it was not before: nothing is renewed, and introspection says inactive.\n\
                Every subscribed verifier refuses it within its freshness window; others accept it until it expires";
    Ok(Shown::new(json!({ "revoked": true }), text.to_owned()))
}

/// That this broker signed the token; whether its time is over by this machine's clock. Of what it did not sign the endpoint says
/// the same as of what it ended. All else is the broker's to judge.
fn judge(found: &str, trust: &v1::GetTrustBundleResponse, now: Stamp) -> Result<bool, Failure> {
    let keys = |document: &str| KeySet::parse(document.as_bytes()).ok();
    let access_tokens =
        keys(&trust.access_token_jwks).ok_or(Failure::Answer("access_token_jwks"))?;
    let access_token = access_token::verify(found, &access_tokens, &trust.issuer, now);
    if !matches!(access_token, Err(AccessTokenError::Jws(_))) {
        return Ok(matches!(access_token, Err(AccessTokenError::Claim(ClaimError::Expired))));
    }
    let bundle = Bundle::parse(trust.spiffe_bundle.as_bytes());
    let bundle = bundle.map_err(|_| Failure::Answer("spiffe_bundle"))?;
    let domain = TrustDomain::parse(&trust.trust_domain);
    let domain = domain.map_err(|_| Failure::Answer("trust_domain"))?;
    // In a bundle `use` says that a key is for JWT-SVIDs, where a JWK set says that it is for signatures.
    let svid_key = |jwk: &Object| {
        let mut jwk = jwk.clone();
        jwk.remove("use");
        VerifyingKey::from_jwk(&jwk).ok()
    };
    let svid_keys = KeySet::of(bundle.jwt_keys().iter().filter_map(svid_key)).ok();
    let issuer = task_jwt_svid::issuer(&trust.issuer);
    let svid = svid_keys.map(|keys| TaskJwtSvid::verify(found, &keys, (&issuer, &domain), now));
    match svid {
        None | Some(Err(TaskJwtSvidError::Jws(_))) => Err(Failure::Usage(format!(
            "the token says that `{}` issued it, and no key of that broker signed it: it was cut or changed on the way, or made up. Nobody accepts \
             it as it is; if it is a part of one that leaked, read the whole of that, or let an operator run `leasehold revoke lease`",
            trust.issuer
        ))),
        Some(svid) => Ok(matches!(svid, Err(TaskJwtSvidError::Claim(ClaimError::Expired)))),
    }
}

fn web_client(connection: &Connection) -> Result<reqwest::Client, Failure> {
    let unusable = |problem: String| Failure::Usage(format!("`--ca` cannot be used: {problem}"));
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(&connection.ca_pem()?) {
        let root = root.map_err(|error| unusable(error.to_string()))?;
        roots.add(root).map_err(|error| unusable(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.map_err(|error| unusable(error.to_string()))?;
    let tls = tls.with_root_certificates(roots).with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).https_only(true);
    let client = client.redirect(reqwest::redirect::Policy::none()).timeout(TIMEOUT).build();
    client.map_err(|error| unusable(error.to_string()))
}

async fn as_operator(
    lease: LeaseId,
    reason: String,
    waiting: Waiting,
    client: &Client,
) -> Result<Shown, Failure> {
    let id = uuid::Uuid::new_v4().to_string();
    let request = v1::RevokeLeaseRequest {
        request_id: id.clone(),
        lease_id: lease.to_string(),
        reason,
        ..Default::default()
    };
    let call = async |request| client.operators().revoke_lease(request).await;
    let answer = waiting.end(client, &id, request, call).await;
    let answer = answer.map_err(|failure| match failure.reason() {
        "ROLE_MISSING" | "IDENTITY_UNVERIFIED" => Failure::Usage(format!(
            "a certificate is no secret, so having it is no right to end it: an operator must run `leasehold revoke lease {lease}`"
        )),
        _ => failure,
    })?;
    let lease = show::lease(&answer.lease.ok_or(Failure::Answer("lease"))?);
    Ok(show::with_revocation(lease, answer.revocation.as_ref(), waiting.wanted()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::domain::time::Span;
    use crate::testing::keys::{keys, settings};

    const GOLDEN: &str = include_str!("../../tests/golden/jwt-svid.json");

    #[tokio::test]
    async fn a_jwt_svid_is_taken_by_the_key_that_signs_them_and_by_no_other() {
        let mut claims: Value = serde_json::from_str(GOLDEN).unwrap();
        let now = Stamp::from_seconds(claims["iat"].as_u64().unwrap());
        let (keys, settings) = (keys(now).await, settings());
        let trust = v1::GetTrustBundleResponse {
            trust_domain: settings.trust_domain.to_string(),
            spiffe_bundle: keys.bundle().to_document().to_string(),
            access_token_jwks: keys.verifying_keys().to_document().to_string(),
            issuer: settings.base_url.clone(),
        };
        claims["iss"] = task_jwt_svid::issuer(&settings.base_url).into();
        let key = keys.jwt_svid_key(now).unwrap();
        let svid = key.key().sign(task_jwt_svid::TYP, &claims).unwrap();
        assert!(!judge(svid.expose_text(), &trust, now).unwrap());
        let late = now.plus(Span::from_seconds(300));
        assert!(judge(svid.expose_text(), &trust, late).unwrap(), "it has expired");
        let other = keys.access_token_key(now).unwrap().key().sign(task_jwt_svid::TYP, &claims);
        let refused = judge(other.unwrap().expose_text(), &trust, now).unwrap_err();
        assert!(refused.to_string().contains("no key of that broker signed it"), "{refused}");
    }
}
