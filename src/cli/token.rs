//! `leasehold token`: access tokens for agents, and whether a credential is active.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use zeroize::Zeroizing;

use super::arguments;
use super::client::Client;
use super::credential::{self, Terms};
use super::dpop_key::{DpopKey, Proof};
use super::failure::Failure;
use super::fresh_key::OptionalKeyFiles;
use super::grant::GrantArguments;
use super::show::{self, Shown};
use crate::proto::v1;
use crate::proto::v1::access_token_request::Proof as Binding;
use crate::proto::v1::introspect_credential_request::Credential as Introspected;
use crate::proto::v1::issue_credential_request::Credential;
use crate::spiffe::authority::Authority;

const PEM_BEGIN: &[u8] = b"-----BEGIN ";

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Get a token for a task; stdout is the token alone
    Issue(Issue),
    /// Get a new token under the same lease
    Renew(Renew),
    /// Make a DPoP proof for a request; stdout is the proof alone, for the header `DPoP`
    Proof(Proof),
    /// Ask whether a token or a certificate is active; exit code 1 if it is not
    Introspect(Introspect),
}

#[derive(Debug, Args)]
pub(super) struct Issue {
    /// The task
    #[arg(long, value_parser = arguments::task_id)]
    task: String,
    /// The one resource that the token is for
    #[arg(long)]
    audience: String,
    #[command(flatten)]
    grant: GrantArguments,
    /// Only if the task is in this epoch
    #[arg(long, value_name = "EPOCH", default_value_t = 0, hide_default_value = true)]
    expected_epoch: u64,
    /// A token for whoever holds it, without a key; only where the tier allows it
    #[arg(long, conflicts_with = "cert_out")]
    bearer: bool,
    /// A JWT-SVID instead of an access token, for verifiers that know SPIFFE only; only where the tier allows bearer tokens
    #[arg(long, conflicts_with_all = ["bearer", "dpop_key", "cert_out"])]
    jwt_svid: bool,
    /// Bind the token to this key, P-256 in PEM, by a DPoP proof; it is made if there is no such file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bearer", "cert_out"])]
    dpop_key: Option<PathBuf>,
    #[command(flatten)]
    files: OptionalKeyFiles,
    #[command(flatten)]
    terms: Terms,
}

#[derive(Debug, Args)]
pub(super) struct Renew {
    /// The lease
    #[arg(value_parser = arguments::lease_id)]
    lease: String,
    /// The key that the lease is bound to by DPoP proofs
    #[arg(long, value_name = "FILE", conflicts_with = "cert_out")]
    dpop_key: Option<PathBuf>,
    #[command(flatten)]
    files: OptionalKeyFiles,
    #[command(flatten)]
    terms: Terms,
}

#[derive(Debug, Args)]
pub(super) struct Introspect {
    /// File with the token, or with a certificate in PEM, alone or with the authorities above it; `-` for stdin
    #[arg(default_value = "-")]
    file: PathBuf,
    /// The file must be a certificate
    #[arg(long)]
    certificate: bool,
}

impl Token {
    /// Asks the broker.
    pub(super) async fn run(self, client: &Client) -> Result<Shown, Failure> {
        match self {
            Self::Issue(issue) => issue.run(client).await,
            Self::Renew(renew) => {
                let dpop = renew.dpop_key.as_deref().map(DpopKey::read).transpose()?;
                let keys = (renew.files.given(), dpop);
                credential::renew(client, renew.terms, keys, renew.lease).await
            }
            Self::Proof(proof) => proof.run(),
            Self::Introspect(introspect) => introspect.run(client).await,
        }
    }
}

impl Issue {
    async fn run(self, client: &Client) -> Result<Shown, Failure> {
        let key = credential::with_fresh_key(self.files.given())?;
        let dpop = self.dpop_key.as_deref().map(DpopKey::read_or_make).transpose()?;
        let proof = match (&key, &dpop) {
            (Some((key, _)), _) => Some(Binding::CsrDer(key.csr_der.clone())),
            (None, Some(_)) => Some(Binding::Dpop(true)),
            (None, None) => self.bearer.then_some(Binding::Bearer(true)),
        };
        let request = v1::IssueCredentialRequest {
            task_id: self.task,
            expected_epoch: self.expected_epoch,
            audience: self.audience,
            authorization_details: self.grant.json().unwrap_or_default(),
            credential: Some(if self.jwt_svid {
                Credential::JwtSvid(v1::JwtSvidRequest {})
            } else {
                Credential::AccessToken(v1::AccessTokenRequest { proof })
            }),
            ..Default::default()
        };
        credential::issue(client, self.terms, (key, dpop), request).await
    }
}

impl Introspect {
    async fn run(self, client: &Client) -> Result<Shown, Failure> {
        let bytes = read(&self.file)?;
        let credential = if self.certificate || is_pem(&bytes) {
            Introspected::CertificateDer(certificate_in(&self.file, &bytes)?)
        } else {
            Introspected::Token(token_in(&self.file, &bytes)?.as_str().to_owned())
        };
        let request = v1::IntrospectCredentialRequest { credential: Some(credential) };
        let mut service = client.verification();
        let answer = client.read(service.introspect_credential(request)).await?;
        let claims = show::embedded_json(&answer.claims);
        let expires = show::time(answer.expire_time);
        let text = match (answer.active, &expires) {
            (false, _) => "inactive".to_owned(),
            (true, Some(expires)) => format!("active until {expires}\n{claims:#}"),
            (true, None) => return Err(Failure::Answer("expire_time")),
        };
        let json = json!({ "active": answer.active, "claims": claims, "expire_time": expires });
        Ok(Shown { exit: u8::from(!answer.active), ..Shown::new(json, text) })
    }
}

/// The one certificate in PEM in a file. What follows it may only lead up from it: of two that somebody holds, one would be taken
/// for both. A key that lies beside it goes nowhere.
pub(super) fn certificate_in(file: &Path, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let all = all.map_err(|_| unreadable(file, "whole certificate in PEM"))?;
    let (first, above) = all.split_first().ok_or_else(|| unreadable(file, "certificate in PEM"))?;
    match above.iter().filter(|der| Authority::check(der).is_err()).count() {
        0 => Ok(first.to_vec()),
        others => Err(Failure::Usage(format!(
            "`{}` holds {} certificates, and not one with the authorities above it: only the first would be looked at. Give one at a time",
            file.display(),
            others.saturating_add(1)
        ))),
    }
}

/// The token in a file; `-` is stdin.
pub(super) fn read_token(file: &Path) -> Result<Zeroizing<String>, Failure> {
    token_in(file, &read(file)?)
}

/// Whether that is PEM, which no token is.
pub(super) fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(PEM_BEGIN.len()).any(|part| part == PEM_BEGIN)
}

fn token_in(file: &Path, bytes: &[u8]) -> Result<Zeroizing<String>, Failure> {
    let token = std::str::from_utf8(bytes.trim_ascii()).ok().filter(|token| !token.is_empty());
    token.map(|token| Zeroizing::new(token.to_owned())).ok_or_else(|| unreadable(file, "token"))
}

fn unreadable(file: &Path, what: &str) -> Failure {
    Failure::Usage(format!("`{}` holds no {what}", file.display()))
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if file.to_str().is_some_and(arguments::is_token) {
        return Err(Failure::Usage(arguments::TOKEN_ITSELF.to_owned()));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let read = match file.to_str() {
        Some("-") => io::stdin().lock().read_to_end(&mut bytes),
        _ => fs::File::open(file).and_then(|mut file| file.read_to_end(&mut bytes)),
    };
    let option = "the argument FILE, or `-` for what is piped in";
    read.map_err(|source| Failure::Read { option, path: file.to_owned(), source })?;
    Ok(bytes)
}
