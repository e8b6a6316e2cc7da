//! Leases and credentials, for a person and for a program.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Shown, embedded_json, fields, grant, pem, table, time, word};
use crate::cli::failure::Failure;
use crate::cli::fresh_key::KeyFiles;
use crate::proto::v1;

/// One lease.
pub(in crate::cli) fn lease(lease: &v1::Lease) -> Shown {
    Shown::new(json!({ "lease": json_of(lease) }), text_of(lease))
}

/// A page of leases.
pub(in crate::cli) fn leases(leases: &[v1::Lease], next_page_token: &str) -> Shown {
    let json = json!({
        "leases": leases.iter().map(json_of).collect::<Vec<_>>(), "next_page_token": next_page_token,
    });
    let mut rows =
        vec![["LEASE", "KIND", "STATE", "AUDIENCE", "EXPIRES", "HOLDER"].map(str::to_owned)];
    rows.extend(leases.iter().map(|lease| {
        let (kind, state) = (
            word(lease.kind().as_str_name(), "CREDENTIAL_KIND_"),
            word(lease.state().as_str_name(), "LEASE_STATE_"),
        );
        let expires = time(lease.expire_time).unwrap_or_default();
        [lease.lease_id.clone(), kind, state, lease.audience.clone(), expires, lease.holder.clone()]
    }));
    let mut shown = Shown::new(json, table(&rows));
    if !next_page_token.is_empty() {
        shown.aside = format!("there are more: `--page-token {next_page_token}`");
    }
    shown
}

/// What came with a new credential.
pub(in crate::cli) struct Issued {
    pub(in crate::cli) lease: Option<v1::Lease>,
    pub(in crate::cli) credential: Option<v1::Credential>,
    pub(in crate::cli) expire_time: Option<prost_types::Timestamp>,
    pub(in crate::cli) ttl_clamp: v1::TtlClamp,
    pub(in crate::cli) step: String,
    pub(in crate::cli) checkpoint: Vec<u8>,
    /// Where certificate and key were written.
    pub(in crate::cli) files: Option<KeyFiles>,
}

/// A new credential: for a person, stdout is the token alone.
pub(in crate::cli) fn credential(issued: &Issued) -> Result<Shown, Failure> {
    let lease = issued.lease.as_ref().ok_or(Failure::Answer("lease"))?;
    let credential = issued.credential.as_ref().ok_or(Failure::Answer("credential"))?;
    let expires = time(issued.expire_time);
    let shown = |file: &Path| file.display().to_string();
    let cert_file = issued.files.as_ref().map(KeyFiles::cert).map(shown);
    let key_file = issued.files.as_ref().map(KeyFiles::key).map(shown);
    let json = json!({
        "lease": json_of(lease),
        "credential": {
            "access_token": credential.access_token,
            "token_type": credential.token_type,
            "jwt_svid": credential.jwt_svid,
            "certificate_chain": pem("CERTIFICATE", &credential.certificate_chain_der),
            "spiffe_id": credential.spiffe_id,
            "certificate_file": cert_file,
            "key_file": key_file,
        },
        "expire_time": expires,
        "ttl_clamp": issued.ttl_clamp.as_str_name(),
        "step": issued.step,
        "checkpoint": STANDARD.encode(&issued.checkpoint),
    });
    let aside = fields(&[
        ("lease", lease.lease_id.clone()),
        (
            "expires",
            format!(
                "{}, by the {} limit",
                expires.unwrap_or_default(),
                word(issued.ttl_clamp.as_str_name(), "TTL_CLAMP_")
            ),
        ),
        ("step", issued.step.clone()),
        ("spiffe id", credential.spiffe_id.clone()),
        ("certificate", cert_file.unwrap_or_default()),
        ("key", key_file.unwrap_or_default()),
        ("dpop key", lease.jkt.clone()),
    ]);
    let text = match credential.access_token.as_str() {
        "" => &credential.jwt_svid,
        _ => &credential.access_token,
    };
    Ok(Shown { aside, ..Shown::new(json, text.clone()) })
}

fn json_of(lease: &v1::Lease) -> Value {
    json!({
        "lease_id": lease.lease_id,
        "task_id": lease.task_id,
        "kind": lease.kind().as_str_name(),
        "state": lease.state().as_str_name(),
        "holder": lease.holder,
        "instance": lease.instance,
        "key_thumbprint": lease.key_thumbprint,
        "jkt": lease.jkt,
        "audience": lease.audience,
        "authorization_details": embedded_json(&lease.authorization_details),
        "tier": lease.tier,
        "epoch": lease.epoch,
        "credential_id": lease.credential_id,
        "first_issue_time": time(lease.first_issue_time),
        "issue_time": time(lease.issue_time),
        "expire_time": time(lease.expire_time),
        "ceiling_time": time(lease.ceiling_time),
        "renewals": lease.renewals,
    })
}

/// What the credential's holder proves to have besides it.
fn key(lease: &v1::Lease) -> String {
    match (lease.kind(), lease.key_thumbprint.as_str(), lease.jkt.as_str()) {
        (v1::CredentialKind::X509Svid, ..) => "the certificate's own".to_owned(),
        (v1::CredentialKind::JwtSvid, "", "") => "none: whoever holds the JWT-SVID".to_owned(),
        (v1::CredentialKind::AccessToken, "", "") => "none: a bearer token".to_owned(),
        (v1::CredentialKind::Unspecified, "", "") => "not told".to_owned(),
        (_, "", jkt) => format!("{jkt} (DPoP)"),
        (_, thumbprint, _) => format!("{thumbprint} (certificate)"),
    }
}

fn text_of(lease: &v1::Lease) -> String {
    fields(&[
        ("lease", lease.lease_id.clone()),
        ("task", format!("{}, epoch {}", lease.task_id, lease.epoch)),
        ("kind", word(lease.kind().as_str_name(), "CREDENTIAL_KIND_")),
        ("state", word(lease.state().as_str_name(), "LEASE_STATE_")),
        ("holder", lease.holder.clone()),
        ("instance", lease.instance.clone()),
        ("key", key(lease)),
        ("audience", lease.audience.clone()),
        ("grant", grant(&lease.authorization_details)),
        ("tier", lease.tier.clone()),
        ("credential", lease.credential_id.clone()),
        ("issued", time(lease.issue_time).unwrap_or_default()),
        ("renewals", lease.renewals.to_string()),
        ("expires", time(lease.expire_time).unwrap_or_default()),
        ("ceiling", time(lease.ceiling_time).unwrap_or_default()),
    ])
}
