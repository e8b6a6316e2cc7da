//! A key for DPoP proofs: kept in a file, so that whoever has the token can go on making them.

use std::path::{Path, PathBuf};

use clap::Args;
use rcgen::KeyPair;
use serde_json::json;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Response, Status};
use zeroize::Zeroizing;

use super::failure::Failure;
use super::fresh_key::replace;
use super::show::Shown;
use crate::broker::seams::{Clock, SystemClock};
use crate::domain::secret::Secret;
use crate::jose::dpop::{HttpsUri, Statement, prove};
use crate::jose::{SigningKey, base64url};

/// Where in a call's metadata its proof goes.
const PROOF: &str = "dpop";
/// Where in that of a refusal a nonce is.
const NONCE: &str = "dpop-nonce";

/// A P-256 key.
#[derive(Debug)]
pub(super) struct DpopKey(SigningKey);

impl DpopKey {
    /// The key in a file, PKCS #8 in PEM.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let option = "`--dpop-key`";
        let unreadable = |source| Failure::Read { option, path: path.to_owned(), source };
        let pem = Zeroizing::new(std::fs::read_to_string(path).map_err(unreadable)?);
        let key = KeyPair::from_pem(&pem).map(|key| Secret::new(key.serialize_der())).ok();
        let key = key.and_then(|der| SigningKey::from_pkcs8(&der).ok());
        key.map(Self).ok_or_else(|| {
            Failure::Usage(format!("`{}` holds no P-256 key, PKCS #8 in PEM", path.display()))
        })
    }

    /// The same; a new one, if there is no such file.
    pub(super) fn read_or_make(path: &Path) -> Result<Self, Failure> {
        if !path.exists() {
            let key = KeyPair::generate().map_err(|error| Failure::Key(error.to_string()))?;
            replace(path, 0o600, Zeroizing::new(key.serialize_pem()).as_bytes())?;
        }
        Self::read(path)
    }

    fn proof(
        &self,
        statement: (&str, &HttpsUri),
        more: (Option<&str>, Option<&str>),
    ) -> Result<Secret, Failure> {
        let ((method, uri), (token, nonce)) = (statement, more);
        let jti = uuid::Uuid::new_v4().to_string();
        let issued = SystemClock::default().now();
        let statement = Statement { method, uri, jti: &jti, issued, token, nonce };
        prove(&self.0, statement).map_err(|error| Failure::Key(error.to_string()))
    }
}

/// Makes a call with a proof, if there is a key; once more with a nonce, if the broker demands one.
pub(super) async fn call<T>(
    key: Option<&DpopKey>,
    (broker, path): (&str, &str),
    mut send: impl AsyncFnMut(Option<MetadataValue<Ascii>>) -> Result<Response<T>, Status>,
) -> Result<Result<Response<T>, Status>, Failure> {
    let Some(key) = key else { return Ok(send(None).await) };
    let uri = HttpsUri::parse(broker).and_then(|broker| broker.with_path(path));
    let uri = uri.map_err(|fault| Failure::Usage(format!("`--broker {broker}` {fault}")))?;
    let proof = |nonce: Option<&str>| {
        let proof = key.proof(("POST", &uri), (None, nonce))?;
        let value = MetadataValue::try_from(proof.expose_text());
        value.map(Some).map_err(|error| Failure::Key(error.to_string()))
    };
    let answer = send(proof(None)?).await;
    match answer.as_ref().err().and_then(nonce_of) {
        Some(nonce) => Ok(send(proof(Some(&nonce))?).await),
        None => Ok(answer),
    }
}

/// Puts a proof where the broker looks for it.
pub(super) fn show<M>(message: M, proof: Option<MetadataValue<Ascii>>) -> tonic::Request<M> {
    let mut request = tonic::Request::new(message);
    if let Some(proof) = proof {
        request.metadata_mut().insert(PROOF, proof);
    }
    request
}

fn nonce_of(refused: &Status) -> Option<String> {
    let nonce = refused.metadata().get(NONCE)?.to_str().ok()?;
    (refused.code() == Code::Unauthenticated).then(|| nonce.to_owned())
}

/// `leasehold token proof`.
#[derive(Debug, Args)]
pub(super) struct Proof {
    /// The key that the token is bound to, as `token issue --dpop-key` left it
    #[arg(long, value_name = "FILE")]
    dpop_key: PathBuf,
    /// The method of the request
    #[arg(long, default_value = "GET")]
    method: String,
    /// Where the request goes; query and fragment are left out of the proof
    #[arg(long)]
    url: String,
    /// The token that goes with the request; `-` for stdin
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// The nonce that the server demands
    #[arg(long)]
    nonce: Option<String>,
}

impl Proof {
    /// Makes a proof; nobody is asked.
    pub(super) fn run(self) -> Result<Shown, Failure> {
        let key = DpopKey::read(&self.dpop_key)?;
        let place = self.url.split(['?', '#']).next().unwrap_or_default();
        let uri = HttpsUri::parse(place)
            .map_err(|fault| Failure::Usage(format!("`--url {}` {fault}", self.url)))?;
        let token = self.token.as_deref().map(super::token::read_token).transpose()?;
        let token = token.as_deref().map(String::as_str);
        let proof = key.proof((&self.method, &uri), (token, self.nonce.as_deref()))?;
        let jkt = base64url::encode(key.0.verifying_key().public_key().thumbprint());
        let json = json!({ "proof": proof.expose_text(), "jkt": jkt });
        Ok(Shown::new(json, proof.expose_text().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::jose::dpop::{Expect, verify};

    #[test]
    fn a_key_that_is_not_there_is_made_once_and_readable_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dpop.key");
        let first = DpopKey::read_or_make(&path).unwrap();
        let again = DpopKey::read_or_make(&path).unwrap();
        assert_eq!(first.0.kid(), again.0.kid());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, "-----BEGIN NOTHING-----").unwrap();
        let refused = DpopKey::read_or_make(&path).unwrap_err().to_string();
        assert!(refused.contains("dpop.key") && refused.contains("PKCS #8"), "{refused}");
        let absent = DpopKey::read(&folder.path().join("none")).unwrap_err();
        assert!(matches!(absent, Failure::Read { .. }));
    }

    #[test]
    fn a_proof_is_for_the_request_without_its_query_and_for_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let [key, token] = ["dpop.key", "token"].map(|name| folder.path().join(name));
        DpopKey::read_or_make(&key).unwrap();
        std::fs::write(&token, "a.b.c\n").unwrap();
        let proof = |url: &str| Proof {
            dpop_key: key.clone(),
            method: "PUT".to_owned(),
            url: url.to_owned(),
            token: Some(token.clone()),
            nonce: None,
        };
        let shown = proof("https://API.example/documents?page=2#x").run().unwrap();
        let uris = [HttpsUri::parse("https://api.example/documents").unwrap()];
        let expect = Expect { method: "PUT", uris: &uris, token: Some("a.b.c"), nonce: None };
        let held = verify(&shown.text, expect, SystemClock::default().now()).unwrap();
        assert_eq!(shown.json["jkt"], base64url::encode(held.thumbprint));
        assert!(proof("http://api.example/documents").run().is_err());
    }
}
