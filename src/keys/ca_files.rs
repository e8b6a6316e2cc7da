//! An authority from files: a root, perhaps an intermediate below it, and the private key of the lower one.

use std::path::{Path, PathBuf};

use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::ca::{self, CaError, IssuerCa};
use super::keyring::Life;
use crate::domain::time::Stamp;
use crate::spiffe::authority::Authority;
use crate::spiffe::id::TrustDomain;

/// Where the authority lies, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityFiles {
    /// The root's certificate: what verifiers trust.
    pub root: PathBuf,
    /// The certificate that signs, below the root; `None` if the root signs.
    pub intermediate: Option<PathBuf>,
    /// Private key of the certificate that signs, PKCS#8.
    pub key: PathBuf,
}

/// A file of the authority is not what it must be. Nothing of a key is in the error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}`: {fault}", file.display())]
pub struct AuthorityFileError {
    /// Which.
    pub file: PathBuf,
    /// Why.
    pub fault: FileFault,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(std::io::ErrorKind),
    /// None, several, or not PEM.
    #[error("must hold exactly one certificate in PEM")]
    Certificate,
    /// None, encrypted, of another form, or of a kind that cannot sign here.
    #[error(
        "must hold one private key, P-256, P-384 or RSA, as unencrypted PKCS#8 in PEM; `openssl pkcs8 -topk8 -nocrypt` converts"
    )]
    Key,
    /// The certificate, the key, or both together.
    #[error(transparent)]
    Ca(#[from] CaError),
}

impl AuthorityFiles {
    /// Reads and checks the files: the root, and what signs.
    pub(super) fn load(
        &self,
        trust_domain: &TrustDomain,
        now: Stamp,
    ) -> Result<(Authority, IssuerCa), AuthorityFileError> {
        let at = |file: &Path| {
            let file = file.to_owned();
            move |fault: FileFault| AuthorityFileError { file: file.clone(), fault }
        };
        let in_root = at(&self.root);
        let root = certificate(&self.root).map_err(&in_root)?;
        let root = ca::check(&root, trust_domain, now).map_err(|fault| in_root(fault.into()))?;
        let signing = self.intermediate.as_ref().unwrap_or(&self.root);
        let certificate = certificate(signing).map_err(at(signing))?;
        let key = private_key(&self.key).map_err(at(&self.key))?;
        let authority = ca::check(&certificate, trust_domain, now)
            .map_err(|fault| at(signing)(fault.into()))?;
        let life = Life::new(now, now, authority.expires().min(root.expires()));
        let ca = IssuerCa::new(&certificate, &root, key, trust_domain, (life, now));
        let ca = ca.map_err(|fault| match fault {
            CaError::KeyMismatch => at(&self.key)(fault.into()),
            CaError::PathLength => in_root(fault.into()),
            fault => at(signing)(fault.into()),
        })?;
        Ok((root, ca))
    }
}

fn read(file: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, FileFault> {
    let bytes = std::fs::read(file).map_err(|error| FileFault::Unreadable(error.kind()))?;
    Ok(bytes.into())
}

fn certificate(file: &Path) -> Result<Vec<u8>, FileFault> {
    let pem = read(file)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates.as_deref() {
        Ok([certificate]) => Ok(certificate.to_vec()),
        _ => Err(FileFault::Certificate),
    }
}

fn private_key(file: &Path) -> Result<KeyPair, FileFault> {
    let der = PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|_| FileFault::Key)?;
    let key = KeyPair::try_from(&der).map_err(|_| FileFault::Key)?;
    // Verifiers of SPIFFE need not know Ed25519, and a JWK of ours has no form for it.
    if key.is_compatible(&rcgen::PKCS_ED25519) { Err(FileFault::Key) } else { Ok(key) }
}

#[cfg(test)]
mod tests;
