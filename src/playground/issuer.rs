//! The playground's OIDC issuer: a key, its JWK set in a file that the broker reads, and tokens on demand.

use std::fs;
use std::path::Path;

use rcgen::KeyPair;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{PlaygroundError, files};
use crate::domain::secret::Secret;
use crate::domain::time::{Span, Stamp};
use crate::jose::{KeySet, KeySetError, SigningKey, SigningKeyError};

/// Its name in principals: `oidc:dev:<subject>`.
pub(super) const NAME: &str = "dev";
/// Its `iss`.
pub(super) const URL: &str = "https://issuer.dev.example";
/// The `aud` by which its tokens are for the broker.
pub(super) const BROKER_AUDIENCE: &str = "leasehold";
/// The file with its public key.
pub(super) const JWKS_FILE: &str = "issuer.jwks.json";

const KEY_FILE: &str = "issuer.key";
/// Claims that it sets itself.
const OWN_CLAIMS: [&str; 5] = ["iss", "sub", "aud", "iat", "exp"];

/// Mints identity tokens.
#[derive(Debug)]
pub struct Issuer {
    key: SigningKey,
}

/// The issuer cannot be made, read, or asked for such a token.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The key.
    #[error("the issuer's key: {0}")]
    Key(#[from] SigningKeyError),
    /// The key has no form in PEM, or the file holds something else.
    #[error("`{KEY_FILE}` does not hold the issuer's key in PEM")]
    Pem,
    /// The key has no published form.
    #[error("the issuer's key cannot be published: {0}")]
    KeySet(#[from] KeySetError),
    /// The issuer itself says that.
    #[error("the claim `{0}` is set by the issuer; leave it out")]
    OwnClaim(String),
}

impl Issuer {
    /// Makes an issuer in a folder.
    pub(super) fn make(dir: &Path) -> Result<(), PlaygroundError> {
        let (key, pkcs8) = SigningKey::generate().map_err(IssuerError::Key)?;
        let pem = KeyPair::try_from(pkcs8.expose()).map_err(|_| IssuerError::Pem)?;
        let pem = Zeroizing::new(pem.serialize_pem());
        files::write(&dir.join(KEY_FILE), pem.as_bytes())?;
        let keys = KeySet::of([key.verifying_key().clone()]).map_err(IssuerError::KeySet)?;
        files::write(&dir.join(JWKS_FILE), keys.to_document().to_string().as_bytes())
    }

    /// Reads the issuer in a folder.
    pub(super) fn open(dir: &Path) -> Result<Self, PlaygroundError> {
        let path = dir.join(KEY_FILE);
        let pem = Zeroizing::new(fs::read(&path).map_err(files::at(&path))?);
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| IssuerError::Pem)?;
        let pkcs8 = Secret::new(key.secret_der().to_vec());
        Ok(Self { key: SigningKey::from_pkcs8(&pkcs8).map_err(IssuerError::Key)? })
    }

    /// An identity token for the broker: `subject`, valid from now on for so long, with these further claims.
    ///
    /// # Errors
    /// [`IssuerError::OwnClaim`] for a claim that is not the caller's to choose; [`IssuerError::Key`].
    pub fn token(
        &self,
        subject: &str,
        further: Map<String, Value>,
        life: Span,
        now: Stamp,
    ) -> Result<Secret, IssuerError> {
        if let Some(own) = OWN_CLAIMS.iter().find(|own| further.contains_key(**own)) {
            return Err(IssuerError::OwnClaim((*own).to_owned()));
        }
        let mut claims = further;
        let iat = now.seconds();
        let values = [
            json!(URL),
            json!(subject),
            json!(BROKER_AUDIENCE),
            json!(iat),
            json!(iat.saturating_add(life.seconds())),
        ];
        claims.extend(OWN_CLAIMS.map(str::to_owned).into_iter().zip(values));
        Ok(self.key.sign("JWT", &claims)?)
    }
}
