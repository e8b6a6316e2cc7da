//! How long a credential may live: every limit on it, and the keys whose ends are among them.

use crate::broker::Broker;
use crate::broker::access::Caller;
use crate::broker::error::BrokerError;
use crate::domain::certificate::LONGEST_UNLISTED_SECONDS;
use crate::domain::clamp::{Clamp, Limit, Limits};
use crate::domain::lease::{Draft, Kind};
use crate::domain::line::Line;
use crate::domain::refusal::Refusal;
use crate::domain::tier::Tier;
use crate::domain::time::{Span, Stamp};
use crate::keys::{PUBLISHED_AT_LEAST, TokenKey};

/// How long it takes at most until a quarantined key has a successor, which then is published first.
const MADE_WITHIN: Span = Span::from_seconds(1);

impl Broker {
    /// Name and end of the key that signs credentials of a kind now.
    ///
    /// # Errors
    /// [`BrokerError::SigningKeyQuarantined`] says when it is worth trying again.
    pub(super) fn signer(&self, kind: Kind) -> Result<(String, Stamp), BrokerError> {
        let (keys, now) = (self.keys(), self.now());
        let of_token = |key: &TokenKey| (key.key().kid().to_owned(), key.life().expires());
        let signer = match kind {
            Kind::AccessToken => keys.access_token_key(now).map(of_token),
            Kind::JwtSvid => keys.jwt_svid_key(now).map(of_token),
            Kind::X509Svid => {
                keys.authority(now).map(|ca| (ca.key_id().to_owned(), ca.life().expires()))
            }
        };
        match signer {
            // INVARIANT (quarantined key): it signs nothing once this broker has heard of it, lifted or not.
            Some((key_id, _)) if self.parts.feed.is_condemned(&key_id) => {
                let signs_at = now.plus(MADE_WITHIN).plus(PUBLISHED_AT_LEAST);
                let soon = keys.makes(kind).then(|| signs_at.since(now));
                Err(quarantined(kind, key_id, soon))
            }
            Some(signer) => Ok(signer),
            None => Err(match keys.out_of_use(kind, now) {
                Some((key_id, successor)) => {
                    let soon = successor.map(|successor| successor.since(now));
                    quarantined(kind, key_id.to_owned(), soon)
                }
                None => BrokerError::Mint("every signing key has expired".into()),
            }),
        }
    }

    /// Every limit on the credential's life, in the order in which ties are broken.
    pub(super) fn limits(
        &self,
        caller: &Caller,
        line: &Line,
        tier: &Tier,
        ttl_seconds: Option<u64>,
        draft: &Draft,
    ) -> Result<Limits, BrokerError> {
        if ttl_seconds == Some(0) {
            return Err(Refusal::invalid("ttl", "at least 1 s; leave it out for the tier's").into());
        }
        let has_certificate = draft.public_key.is_some();
        let mut key_expires = self.signer(draft.kind)?.1;
        if has_certificate {
            key_expires = key_expires.min(self.signer(Kind::X509Svid)?.1);
        }
        let mut limits = Vec::with_capacity(7);
        limits.extend(ttl_seconds.map(|ttl| (Clamp::Requested, Limit::After(ttl))));
        limits.push((Clamp::Tier, Limit::After(tier.ttl_seconds)));
        limits.extend(draft.grant.max_ttl_seconds().map(|ttl| (Clamp::Grant, Limit::After(ttl))));
        limits.push((Clamp::TaskDeadline, Limit::At(line.deadline().seconds())));
        limits.push((Clamp::CallerCredential, Limit::At(caller.identity().expires().seconds())));
        limits.push((Clamp::LeaseCeiling, Limit::AfterFirstIssue(tier.ceiling_seconds)));
        limits.push((Clamp::SigningKey, Limit::At(key_expires.seconds())));
        let limits = Limits { limits, minimum_seconds: tier.min_ttl_seconds };
        if has_certificate && may_be_listed(&limits) {
            self.must_sign_lists(draft)?;
        }
        Ok(limits)
    }

    /// That the authority may sign the list on which the certificate of a draft will be put.
    fn must_sign_lists(&self, draft: &Draft) -> Result<(), Refusal> {
        let keys = self.keys();
        let authority = draft.certificate_authority().and_then(|id| keys.authority_named(id));
        if authority.is_some_and(|ca| ca.authority().signs_lists()) {
            return Ok(());
        }
        Err(Refusal::invalid(
            "ttl",
            format!(
                "the broker's certificate authority has no `cRLSign` in its key usage, so certificates live at most {LONGEST_UNLISTED_SECONDS} s; ask for a `ttl` of no more"
            ),
        ))
    }
}

fn quarantined(kind: Kind, key_id: String, successor_in: Option<Span>) -> BrokerError {
    let what = match kind {
        Kind::AccessToken => "access tokens",
        Kind::JwtSvid => "JWT-SVIDs",
        Kind::X509Svid => "certificates",
    };
    let retry_after_millis = successor_in.map(Span::millis);
    BrokerError::SigningKeyQuarantined { what, key_id, retry_after_millis }
}

/// Whether a certificate of these limits may live so long that lists tell of it. Which it is, only its commit knows.
// INVARIANT (listed): every certificate that names a list is found by who makes the list, so it is written with its lease.
pub(super) fn may_be_listed(limits: &Limits) -> bool {
    let short =
        |limit: &Limit| matches!(limit, Limit::After(ttl) if *ttl <= LONGEST_UNLISTED_SECONDS);
    !limits.limits.iter().any(|(_, limit)| short(limit))
}
