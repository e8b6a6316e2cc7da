//! Asking for a credential and for its renewal: the same for tokens and certificates.

use std::future::ready;

use clap::Args;

use super::arguments::{self, RequestId};
use super::client::Client;
use super::dpop_key::{self, DpopKey};
use super::failure::Failure;
use super::fresh_key::{FreshKey, KeyFiles};
use super::show::{self, Issued, Shown};
use crate::domain::time::Span;
use crate::proto::v1;

/// What every request for a credential may say.
#[derive(Debug, Args)]
pub(super) struct Terms {
    /// How long it shall live at most, like `60s`; default: as the tier says
    #[arg(long, value_parser = arguments::span)]
    ttl: Option<Span>,
    #[command(flatten)]
    request: RequestId,
}

/// Issues a credential, bound to the key that a certificate is to be written for, or to that of a DPoP proof, if there is one.
pub(super) async fn issue(
    client: &Client,
    terms: Terms,
    (key, dpop): (Option<(FreshKey, KeyFiles)>, Option<DpopKey>),
    request: v1::IssueCredentialRequest,
) -> Result<Shown, Failure> {
    let request_id = terms.request.into_id();
    let ttl = terms.ttl.map(arguments::wire);
    let request = v1::IssueCredentialRequest { request_id: request_id.clone(), ttl, ..request };
    let mut service = client.credentials();
    let call = (client.broker.as_str(), "/leasehold.v1.CredentialService/IssueCredential");
    let answer = dpop_key::call(dpop.as_ref(), call, async |proof| {
        service.issue_credential(dpop_key::show(request.clone(), proof)).await
    });
    let answer = client.change(&request_id, ready(answer.await?)).await?;
    let ttl_clamp = answer.ttl_clamp();
    let files = write(key, answer.credential.as_ref())?;
    show::credential(&Issued {
        lease: answer.lease,
        credential: answer.credential,
        expire_time: answer.expire_time,
        ttl_clamp,
        step: answer.step,
        checkpoint: answer.checkpoint,
        files,
    })
}

/// Issues a new credential under the same lease.
pub(super) async fn renew(
    client: &Client,
    terms: Terms,
    (files, dpop): (Option<KeyFiles>, Option<DpopKey>),
    lease_id: String,
) -> Result<Shown, Failure> {
    let key = with_fresh_key(files)?;
    let request_id = terms.request.into_id();
    let request = v1::RenewCredentialRequest {
        request_id: request_id.clone(),
        lease_id,
        ttl: terms.ttl.map(arguments::wire),
        csr_der: key.as_ref().map(|(key, _)| key.csr_der.clone()).unwrap_or_default(),
    };
    let mut service = client.credentials();
    let call = (client.broker.as_str(), "/leasehold.v1.CredentialService/RenewCredential");
    let answer = dpop_key::call(dpop.as_ref(), call, async |proof| {
        service.renew_credential(dpop_key::show(request.clone(), proof)).await
    });
    let answer = client.change(&request_id, ready(answer.await?)).await?;
    let ttl_clamp = answer.ttl_clamp();
    let files = write(key, answer.credential.as_ref())?;
    show::credential(&Issued {
        lease: answer.lease,
        credential: answer.credential,
        expire_time: answer.expire_time,
        ttl_clamp,
        step: String::new(),
        checkpoint: Vec::new(),
        files,
    })
}

/// A new key for the files, if there are any.
pub(super) fn with_fresh_key(
    files: Option<KeyFiles>,
) -> Result<Option<(FreshKey, KeyFiles)>, Failure> {
    files.map(|files| Ok((FreshKey::generate()?, files))).transpose()
}

fn write(
    key: Option<(FreshKey, KeyFiles)>,
    credential: Option<&v1::Credential>,
) -> Result<Option<KeyFiles>, Failure> {
    let Some((key, files)) = key else {
        return Ok(None);
    };
    let chain = credential.map(|credential| credential.certificate_chain_der.as_slice());
    let chain = chain.filter(|chain| !chain.is_empty()).ok_or(Failure::Answer("certificate"))?;
    files.write(&key, chain)?;
    Ok(Some(files))
}
