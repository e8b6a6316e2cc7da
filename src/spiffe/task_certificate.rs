//! A certificate that the broker signed for a task, and the one function that verifies one.

use std::collections::BTreeSet;

use super::authority::Authority;
use super::certificate::Certificate;
use super::id::{SpiffeId, TrustDomain};
use super::leaf::{Leaf, LeafError};
use super::task_extension::{self, ExtensionOid, TaskExtensionError};
use crate::domain::execution::Execution;
use crate::domain::principal::Name;
use crate::domain::scope::{Reach, Scope};
use crate::domain::time::Stamp;

/// The first byte of a serial number, before the 16 bytes of the `jti`: it keeps the number positive.
const SERIAL_PREFIX: u8 = 0x01;

/// The serial number of the certificate with this `jti`.
pub fn serial_number(jti: [u8; 16]) -> [u8; 17] {
    let mut serial = [SERIAL_PREFIX; 17];
    serial.iter_mut().skip(1).zip(jti).for_each(|(to, from)| *to = from);
    serial
}

/// The SPIFFE ID of a certificate of this execution: `spiffe://<td>/task/<task>/e/<epoch>/<class>`.
pub fn spiffe_id_text(trust_domain: &TrustDomain, execution: &Execution, class: &Name) -> String {
    let own = execution.path.own();
    format!("spiffe://{trust_domain}/task/{}/e/{}/{class}", own.task, own.counter.get())
}

/// What a certificate of ours says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskCertificate {
    /// Whom it names.
    pub spiffe_id: SpiffeId,
    /// The agent class in that name.
    pub class: Name,
    /// The `jti` in its serial number.
    pub jti: [u8; 16],
    /// What the extension says.
    pub execution: Execution,
    /// The first instant at which it is no longer valid: one second after `notAfter`, the lease's `exp`.
    pub expires: Stamp,
    /// Subject key identifier, in hex, of the authority that signed it.
    pub signing_key: String,
    /// Those of the authorities that vouch for that one, as far as somebody looked.
    pub vouching: BTreeSet<String>,
}

/// A certificate is not one that we signed for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskCertificateError {
    /// It breaks a rule of leaves, or is out of its time (X509-SVID section 5.2).
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// None of the authorities that are valid now signed it (RFC 5280 section 6.1.3).
    #[error("the certificate is not signed by a Leasehold authority that is valid now")]
    Signature,
    /// The SPIFFE ID is not of the form above, of this trust domain, or not of the extension's task and epoch.
    #[error("the certificate's SPIFFE ID is not that of its task")]
    SpiffeId,
    /// The serial number is not `01` and 16 bytes.
    #[error("the certificate's serial number is not one that Leasehold gives")]
    SerialNumber,
    /// No task extension under the configured object identifier, or a critical one.
    #[error("the certificate has no task extension; check the configured object identifier")]
    ExtensionMissing,
    /// The extension itself.
    #[error(transparent)]
    Extension(#[from] TaskExtensionError),
}

impl TaskCertificate {
    /// Verifies a certificate that one of these authorities signed itself; no chain is built. No leeway.
    ///
    /// Whether the credential is still alive is not decided here: ask revocation with [`Self::full_reach`].
    ///
    /// # Errors
    /// [`TaskCertificateError`] names the rule that it breaks.
    pub fn verify<'a>(
        der: &[u8],
        authorities: impl IntoIterator<Item = &'a Authority>,
        (trust_domain, oid): (&TrustDomain, &ExtensionOid),
        now: Stamp,
    ) -> Result<Self, TaskCertificateError> {
        let leaf = Leaf::check(der, now)?;
        let certificate = Certificate::read(der).map_err(|_| LeafError::Malformed)?;
        let mut valid = authorities.into_iter().filter(|authority| authority.is_valid_at(now));
        let signer = valid.find(|authority| certificate.is_signed_by(authority));
        let signing_key = signer.and_then(Authority::subject_key_id);
        let signing_key = signing_key.ok_or(TaskCertificateError::Signature)?;
        let extension = certificate.extension(oid.arcs()).filter(|(critical, _)| !critical);
        let (_, value) = extension.ok_or(TaskCertificateError::ExtensionMissing)?;
        let execution = task_extension::decode(value)?;
        let class = leaf.id().as_str().rsplit('/').next().map(Name::parse);
        let class = class.and_then(Result::ok).ok_or(TaskCertificateError::SpiffeId)?;
        if leaf.id().as_str() != spiffe_id_text(trust_domain, &execution, &class) {
            return Err(TaskCertificateError::SpiffeId);
        }
        let jti = certificate.serial_number().strip_prefix(&[SERIAL_PREFIX]);
        let jti = jti.and_then(|jti| jti.try_into().ok());
        Ok(Self {
            spiffe_id: leaf.id().clone(),
            class,
            jti: jti.ok_or(TaskCertificateError::SerialNumber)?,
            execution,
            expires: leaf.expires(),
            signing_key,
            vouching: BTreeSet::new(),
        })
    }

    /// Every scope that reaches it.
    pub fn full_reach(&self) -> Vec<Reach> {
        let vouching = self.vouching.iter().filter(|key_id| **key_id != self.signing_key);
        let vouching = vouching.map(|key_id| Scope::Key(key_id.clone()).reach());
        self.execution.full_reach(&self.signing_key).into_iter().chain(vouching).collect()
    }
}
