//! `leasehold revoke --token`: somebody found a credential where it should not be.
//!
//! A token is a secret: who has it may end it, and needs no right besides (RFC 7009). A certificate is none, since every
//! server that it was shown to has it, so ending its lease takes an operator.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
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
use crate::domain::id::LeaseId;
use crate::jose::Claimed;
use crate::proto::v1;
use crate::spiffe::task_extension;

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
    let client = connection.open().await?;
    match found {
        Found::Token(found) => by_possession(&found, &client, connection).await,
        Found::Certificate(lease) => as_operator(lease, reason, waiting, &client).await,
    }
}

fn read(file: &Path) -> Result<Found, Failure> {
    let text = token::read_token(file)?;
    if !text.contains("-----BEGIN ") {
        return Ok(Found::Token(text));
    }
    let leaf = CertificateDer::from_pem_slice(text.as_bytes());
    let leaf = leaf.map_err(|_| nothing(file, "no certificate in PEM"))?;
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
    let base = trust.issuer;
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
        None => return Err(Failure::Usage("what was read is no token of a broker".to_owned())),
    }
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
    if !answer.status().is_success() {
        return Err(away(format!("it answers with status {}", answer.status().as_u16())));
    }
    let text = "the token's lease is over, if it was not before: nothing is renewed, and introspection says inactive.\n\
                Every subscribed verifier refuses it within its freshness window; others accept it until it expires";
    Ok(Shown::new(json!({ "revoked": true }), text.to_owned()))
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
