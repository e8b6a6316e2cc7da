//! Credentials and leases: what is asked for, and how it is answered.

use tonic::metadata::MetadataMap;

use super::fields;
use crate::broker::request::{
    CredentialRequest, IssueRequest, RenewalProof, ShownProof, TokenProof,
};
use crate::broker::{Issued, LeaseState, LeaseView, Minted, MintedCertificate};
use crate::domain::clamp::Clamp;
use crate::domain::lease::Kind;
use crate::domain::refusal::Refusal;
use crate::domain::time::Stamp;
use crate::jose::base64url;
use crate::proto::v1;
use crate::proto::v1::access_token_request::Proof;
use crate::proto::v1::issue_credential_request::Credential;

/// No CSR of one key is longer.
const MAX_CSR_BYTES: usize = 8 * 1024;
/// Where in a call's metadata its DPoP proof is.
const DPOP: &str = "dpop";

/// What is asked for; `shown` is the DPoP proof that came with it.
pub(in crate::grpc) fn issue(
    request: v1::IssueCredentialRequest,
    shown: Option<ShownProof>,
) -> Result<IssueRequest, Refusal> {
    let credential = match request.credential {
        None => {
            return Err(Refusal::invalid(
                "credential",
                "say which: `access_token`, `x509_svid` or `jwt_svid`",
            ));
        }
        Some(Credential::AccessToken(token)) => {
            CredentialRequest::AccessToken(proof(token, shown)?)
        }
        Some(Credential::X509Svid(svid)) => {
            must_be_alone(shown.as_ref())?;
            CredentialRequest::X509Svid(csr(svid.csr_der)?)
        }
        Some(Credential::JwtSvid(v1::JwtSvidRequest {})) => {
            must_be_alone(shown.as_ref())?;
            CredentialRequest::JwtSvid
        }
    };
    Ok(IssueRequest {
        task: fields::task_id("task_id", &request.task_id)?,
        expected_epoch: (request.expected_epoch != 0).then_some(request.expected_epoch),
        audience: request.audience,
        asked: fields::grant(&request.authorization_details)?,
        ttl_seconds: ttl(request.ttl)?,
        credential,
    })
}

fn proof(token: v1::AccessTokenRequest, shown: Option<ShownProof>) -> Result<TokenProof, Refusal> {
    if !matches!(token.proof, Some(Proof::Dpop(_))) {
        must_be_alone(shown.as_ref())?;
    }
    match token.proof {
        None => Ok(TokenProof::CallerCertificate),
        Some(Proof::CsrDer(der)) => csr(der).map(TokenProof::Csr),
        Some(Proof::Bearer(true)) => Ok(TokenProof::Bearer),
        Some(Proof::Bearer(false)) => {
            Err(Refusal::invalid("bearer", "is `false`; set it to `true` or give another proof"))
        }
        Some(Proof::Dpop(true)) => shown.map(TokenProof::Dpop).ok_or_else(|| {
            Refusal::ProofInvalid("there is none; send it in the metadata `dpop`".into())
        }),
        Some(Proof::Dpop(false)) => {
            Err(Refusal::invalid("dpop", "is `false`; set it to `true` or give another proof"))
        }
    }
}

/// Whoever sends a proof means a token that is bound to its key; another one would not be what is expected.
fn must_be_alone(shown: Option<&ShownProof>) -> Result<(), Refusal> {
    match shown {
        None => Ok(()),
        Some(_) => Err(Refusal::invalid(
            "dpop",
            "a DPoP proof came with a request that does not ask for a token bound to its key; set `dpop`",
        )),
    }
}

/// The one DPoP proof in a call's metadata, if there is one.
pub(in crate::grpc) fn shown_proof(
    metadata: &MetadataMap,
    path: &'static str,
) -> Result<Option<ShownProof>, Refusal> {
    let mut proofs = metadata.get_all(DPOP).iter();
    let Some(proof) = proofs.next() else { return Ok(None) };
    if proofs.next().is_some() {
        return Err(Refusal::ProofInvalid("there is more than one; send exactly one".into()));
    }
    let jwt = proof.to_str().map_err(|_| Refusal::ProofInvalid("it is not text".into()))?;
    Ok(Some(ShownProof { jwt: jwt.to_owned(), path }))
}

fn csr(der: Vec<u8>) -> Result<Vec<u8>, Refusal> {
    match der.len() {
        0 => Err(Refusal::invalid("csr_der", "is empty; give a PKCS #10 request in DER")),
        1..=MAX_CSR_BYTES => Ok(der),
        _ => Err(Refusal::invalid("csr_der", format!("longer than {MAX_CSR_BYTES} bytes"))),
    }
}

/// The time to live that is asked for, in seconds.
pub(in crate::grpc) fn ttl(length: Option<prost_types::Duration>) -> Result<Option<u64>, Refusal> {
    length.map(|length| fields::seconds("ttl", length)).transpose()
}

/// The key for a renewal, if one was given: that of a CSR, or of a DPoP proof.
pub(in crate::grpc) fn renewal_proof(
    der: Vec<u8>,
    shown: Option<ShownProof>,
) -> Result<Option<RenewalProof>, Refusal> {
    if der.is_empty() {
        return Ok(shown.map(RenewalProof::Dpop));
    }
    must_be_alone(shown.as_ref())?;
    csr(der).map(RenewalProof::Csr).map(Some)
}

/// What was issued, as the contract says it.
pub(in crate::grpc) fn issued(issued: Issued) -> v1::IssueCredentialResponse {
    let (checkpoint, step) = (issued.checkpoint, issued.step);
    let (expire_time, ttl_clamp) = expiry(&issued.lease);
    v1::IssueCredentialResponse {
        credential: Some(credential(&issued.credential)),
        lease: Some(lease(issued.lease)),
        expire_time: Some(expire_time),
        ttl_clamp: ttl_clamp.into(),
        checkpoint,
        step,
    }
}

/// What was renewed, as the contract says it.
pub(in crate::grpc) fn renewed(issued: Issued) -> v1::RenewCredentialResponse {
    let (expire_time, ttl_clamp) = expiry(&issued.lease);
    v1::RenewCredentialResponse {
        credential: Some(credential(&issued.credential)),
        lease: Some(lease(issued.lease)),
        expire_time: Some(expire_time),
        ttl_clamp: ttl_clamp.into(),
    }
}

fn expiry(view: &LeaseView) -> (prost_types::Timestamp, v1::TtlClamp) {
    let expires = Stamp::from_seconds(view.lease.expires_seconds);
    (fields::timestamp(expires), clamp(view.lease.clamp))
}

fn clamp(clamp: Clamp) -> v1::TtlClamp {
    match clamp {
        Clamp::Requested => v1::TtlClamp::Requested,
        Clamp::Tier => v1::TtlClamp::Tier,
        Clamp::Grant => v1::TtlClamp::Grant,
        Clamp::TaskDeadline => v1::TtlClamp::TaskDeadline,
        Clamp::CallerCredential => v1::TtlClamp::CallerCredential,
        Clamp::LeaseCeiling => v1::TtlClamp::LeaseCeiling,
        Clamp::SigningKey => v1::TtlClamp::SigningKey,
    }
}

fn credential(minted: &Minted) -> v1::Credential {
    let with = |certificate: &MintedCertificate| v1::Credential {
        certificate_chain_der: certificate.chain.clone(),
        spiffe_id: certificate.spiffe_id.to_string(),
        ..Default::default()
    };
    match minted {
        Minted::AccessToken(minted) => v1::Credential {
            access_token: minted.token.expose_text().to_owned(),
            token_type: minted.token_type().to_owned(),
            ..minted.certificate.as_ref().map(with).unwrap_or_default()
        },
        Minted::X509Svid(certificate) => with(certificate),
        Minted::JwtSvid(minted) => v1::Credential {
            jwt_svid: minted.token.expose_text().to_owned(),
            spiffe_id: minted.spiffe_id.to_string(),
            ..Default::default()
        },
    }
}

/// A lease as the contract shows it.
pub(in crate::grpc) fn lease(view: LeaseView) -> v1::Lease {
    let LeaseView { lease, state } = view;
    let at = |seconds| Some(fields::timestamp(Stamp::from_seconds(seconds)));
    v1::Lease {
        kind: kind(lease.draft.kind).into(),
        state: lease_state(state).into(),
        issue_time: at(lease.issued_seconds()),
        first_issue_time: at(lease.first_issue.seconds()),
        expire_time: at(lease.expires_seconds),
        ceiling_time: at(lease.ceiling_seconds()),
        lease_id: lease.draft.id.to_string(),
        task_id: lease.draft.path.own().task.to_string(),
        epoch: lease.draft.path.own().counter.get(),
        holder: lease.draft.holder.to_string(),
        instance: lease.draft.instance,
        key_thumbprint: lease.draft.key_thumbprint.map(base64url::encode).unwrap_or_default(),
        jkt: lease.draft.jkt.map(base64url::encode).unwrap_or_default(),
        audience: lease.draft.audience,
        authorization_details: lease.draft.grant.to_json(),
        tier: lease.draft.tier.to_string(),
        credential_id: base64url::encode(lease.draft.jti),
        renewals: lease.draft.renewals,
    }
}

fn kind(kind: Kind) -> v1::CredentialKind {
    match kind {
        Kind::AccessToken => v1::CredentialKind::AccessToken,
        Kind::X509Svid => v1::CredentialKind::X509Svid,
        Kind::JwtSvid => v1::CredentialKind::JwtSvid,
    }
}

fn lease_state(state: LeaseState) -> v1::LeaseState {
    match state {
        LeaseState::Active => v1::LeaseState::Active,
        LeaseState::Expired => v1::LeaseState::Expired,
        LeaseState::Revoked => v1::LeaseState::Revoked,
        LeaseState::TaskChanged => v1::LeaseState::TaskChanged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(credential: Option<Credential>) -> v1::IssueCredentialRequest {
        v1::IssueCredentialRequest {
            task_id: "tsk_0000000000000000000000000001".into(),
            credential,
            ..Default::default()
        }
    }

    fn token(proof: Option<Proof>) -> v1::IssueCredentialRequest {
        request(Some(Credential::AccessToken(v1::AccessTokenRequest { proof })))
    }

    /// The field that a refusal names.
    fn field(request: v1::IssueCredentialRequest) -> &'static str {
        match issue(request, None).unwrap_err() {
            Refusal::RequestInvalid { field, .. } => field,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn class_01_request_for_no_kind_of_credential_is_refused() {
        assert_eq!(field(request(None)), "credential");
    }

    #[test]
    fn class_01_proof_that_is_there_and_empty_is_refused_and_never_taken_for_a_bearer_token() {
        assert_eq!(field(token(Some(Proof::Bearer(false)))), "bearer");
        assert_eq!(field(token(Some(Proof::CsrDer(vec![])))), "csr_der");
        assert_eq!(field(token(Some(Proof::CsrDer(vec![0; MAX_CSR_BYTES + 1])))), "csr_der");
        let svid = Credential::X509Svid(v1::X509SvidRequest { csr_der: vec![] });
        assert_eq!(field(request(Some(svid))), "csr_der");
        let none = issue(token(None), None).unwrap().credential;
        assert!(matches!(none, CredentialRequest::AccessToken(TokenProof::CallerCertificate)));
    }

    #[test]
    fn class_04_ttl_that_is_no_length_of_time_is_refused() {
        for (seconds, nanos) in [(0, 0), (-1, 0), (i64::MAX, 0), (1, -1), (60, 1)] {
            let ttl = Some(prost_types::Duration { seconds, nanos });
            let request = v1::IssueCredentialRequest { ttl, ..token(None) };
            assert_eq!(field(request), "ttl", "{seconds} {nanos}");
        }
    }

    #[test]
    fn class_24_id_in_another_spelling_is_refused() {
        for task_id in ["", "tsk_00}:*", "lse_0000000000000000000000000001"] {
            let request = v1::IssueCredentialRequest { task_id: task_id.into(), ..token(None) };
            assert_eq!(field(request), "task_id", "{task_id}");
        }
    }
}
