//! The list of an authority's revoked certificates (RFC 5280 section 5), for verifiers that know nothing of Leasehold.

use std::time::Duration;

use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams,
    SerialNumber, date_time_ymd,
};

use super::MintError;
use crate::domain::certificate::{Reason, Revocation};
use crate::domain::time::{Span, Stamp};
use crate::keys::IssuerCa;
use crate::spiffe::task_certificate::serial_number;

/// `thisUpdate` lies so long before the list was made, as `notBefore` does before a certificate was: clocks may be behind.
const BACKDATED: Span = Span::from_seconds(30);

/// When a list was made and until when it holds, in the store's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListTimes {
    /// What was revoked by then is on it.
    pub made: Stamp,
    /// `nextUpdate`: who goes by a list goes by none after this.
    pub expires: Stamp,
}

/// Where the list of an authority is: what its certificates of long life name.
pub fn distribution_point(base_url: &str, key_id: &str) -> String {
    format!("{base_url}/crl/{key_id}.crl")
}

/// Signs the list of an authority in DER. Its scope is all that the authority signs, so it has no `issuingDistributionPoint`:
/// certificates of short life say themselves that nobody tells of them (RFC 9608), and verifiers that ask for a list of every
/// authority take them beside it.
///
/// # Errors
/// [`MintError::Signing`], also where the authority's key usage lacks `cRLSign`.
pub fn revocation_list<'a>(
    ca: &IssuerCa,
    (number, times): (u64, ListTimes),
    revoked: impl IntoIterator<Item = (&'a [u8; 16], Revocation)>,
) -> Result<Vec<u8>, MintError> {
    let key_id = ca.authority().subject_key_id_bytes().ok_or(MintError::Signing)?;
    // Whole seconds.
    let date_time = |stamp: Stamp| date_time_ymd(1970, 1, 1) + Duration::from_secs(stamp.seconds());
    let entry = |(jti, revocation): (&[u8; 16], Revocation)| RevokedCertParams {
        serial_number: SerialNumber::from_slice(&serial_number(*jti)),
        revocation_time: date_time(revocation.at),
        // None rather than `unspecified` (section 5.3.1).
        reason_code: revocation.reason.map(code),
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date_time(times.made.minus(BACKDATED)),
        next_update: date_time(times.expires),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: revoked.into_iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::PreSpecified(key_id),
    };
    Ok(ca.sign_list(&list)?)
}

fn code(reason: Reason) -> RevocationReason {
    match reason {
        Reason::Superseded => RevocationReason::Superseded,
        Reason::CessationOfOperation => RevocationReason::CessationOfOperation,
        Reason::PrivilegeWithdrawn => RevocationReason::PrivilegeWithdrawn,
    }
}
