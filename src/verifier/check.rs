//! The check of what somebody shows, in the order of DESIGN.md section 4, without asking anybody.
//!
//! ```text
//!  signature, kind, time ─▶ audience ─▶ key proof ─▶ origin, every hop, watermarks, lease ─▶ Δ ─▶ actions ─▶ once ─▶ Admission
//!  (remembered by text)                              └── by one view, read once ──────────────┘            (the proof)
//! ```

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::admission::Admission;
use super::credential::Credential;
use super::known::Known;
use super::mirror::Mirror;
use super::nonces::Nonces;
use super::refused::Refused;
use super::replays::Replays;
use super::trust::Trust;
use crate::clock::Present;
use crate::domain::lattice::Dead;
use crate::domain::time::{Moment, Span, Stamp};
use crate::jose::access_token::{AccessTokenError, Confirmation};
use crate::jose::dpop::{self, Expect, HttpsUri, NonceKey, Proof};
use crate::jose::{ClaimError, JwsError};
use crate::spiffe::leaf::LeafError;
use crate::spiffe::task_extension::ExtensionOid;

/// How a token was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `Authorization: Bearer` (RFC 6750).
    Bearer,
    /// `Authorization: DPoP` (RFC 9449 section 7.1).
    Dpop,
}

impl Scheme {
    /// Reads the value of the header `Authorization`: the scheme, and the token behind it.
    ///
    /// # Errors
    /// [`Refused`], with the scheme whose challenge goes with it.
    pub fn read(authorization: &str) -> Result<(Self, &str), (Refused, Self)> {
        let other = || (Refused::Nothing, Self::Bearer);
        let (scheme, token) = authorization.split_once(' ').ok_or_else(other)?;
        // RFC 9110 section 11.1: a scheme is compared without regard to case.
        let scheme = match scheme {
            _ if scheme.eq_ignore_ascii_case("bearer") => Self::Bearer,
            _ if scheme.eq_ignore_ascii_case("dpop") => Self::Dpop,
            _ => return Err(other()),
        };
        match token.trim_start_matches(' ') {
            "" => Err((Refused::Malformed("there is no token behind the scheme"), scheme)),
            token => Ok((scheme, token)),
        }
    }
}

/// What somebody shows, and for what.
#[derive(Clone, Copy)]
pub struct Presented<'p> {
    /// How.
    pub scheme: Scheme,
    /// The token.
    pub token: &'p str,
    /// SHA-256 of the client certificate that the connection shows.
    pub certificate: Option<[u8; 32]>,
    /// The header `DPoP`.
    pub proof: Option<&'p str>,
    /// Method and path, without query, of the request that the proof must be for.
    pub request: (&'p str, &'p str),
    /// What the grant must have, all of it.
    pub actions: &'p [&'p str],
}

/// By which rules.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The `aud` that tokens must have.
    pub audience: String,
    /// Whether tokens are taken that are bound to nothing.
    pub takes_unbound: bool,
    /// How callers name this server, in proofs: scheme, host and port, each without a path. From configuration, never from a request.
    pub targets: Vec<HttpsUri>,
    /// Proofs must have a nonce that this key made lately, if there is one (RFC 9449 section 9). Servers of one name share it.
    /// With none, a nonce is demanded only of proofs that may have been shown before this run of the process began.
    pub nonces: Option<NonceKey>,
    /// Under which object identifier certificates say which task they are for.
    pub task_extension: ExtensionOid,
    /// How many verified credentials are remembered.
    pub known: usize,
    /// How many proofs are remembered that somebody was let in with, until they expire: an eighth of them of one key.
    pub proofs: usize,
}

impl Rules {
    /// For one audience: tokens that are bound to a certificate, and nothing else.
    pub fn new(audience: impl Into<String>) -> Self {
        Self {
            audience: audience.into(),
            takes_unbound: false,
            targets: Vec::new(),
            nonces: None,
            task_extension: ExtensionOid::default(),
            known: 65_536,
            proofs: 1_048_576,
        }
    }
}

/// Checks credentials by what a mirror knows.
pub struct Checker {
    rules: Rules,
    mirror: Arc<Mirror>,
    trust: ArcSwapOption<Trust>,
    known: Known,
    nonces: Nonces,
    replays: Replays,
}

/// Something that would be let in, were the view fresh enough.
pub(super) struct Stale {
    admission: Admission,
    proof: Option<Proof>,
    why: Refused,
}

impl Stale {
    pub(super) fn refused(self) -> Refused {
        self.why
    }

    /// The Δ of its credential: nothing older counts for it.
    pub(super) fn delta(&self) -> Span {
        self.admission.credential().execution().freshness
    }
}

/// What a check came to.
pub(super) enum Outcome {
    Admitted(Admission),
    Stale(Stale),
}

impl Checker {
    /// Knows no keys yet, and lets nothing in. `began`: when this run of the process did, which remembers no proof from before.
    pub fn new(rules: Rules, mirror: Arc<Mirror>, began: Moment) -> Self {
        let (known, replays) = (Known::new(rules.known), Replays::new(rules.proofs));
        let nonces = Nonces::new(rules.nonces.clone(), began);
        Self { rules, mirror, trust: ArcSwapOption::empty(), known, nonces, replays }
    }

    /// By which rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The view that it goes by.
    pub fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    /// The keys that it goes by.
    pub fn trust(&self) -> Option<Arc<Trust>> {
        self.trust.load_full()
    }

    /// Takes the broker's keys as they are now. What was verified with others is verified anew.
    pub fn set_trust(&self, trust: Trust) {
        let is_same = self.trust.load().as_ref().is_some_and(|known| known.is_same(&trust));
        if !is_same {
            self.trust.store(Some(Arc::new(trust)));
        }
    }

    /// The same, if there are none yet; says whether it took them.
    pub(super) fn set_first_trust(&self, trust: &Trust) -> bool {
        let none = Option::<Arc<Trust>>::None;
        self.trust.compare_and_swap(&none, Some(Arc::new(trust.clone()))).is_none()
    }

    /// Checks a token.
    ///
    /// # Errors
    /// [`Refused`], for the first rule that it breaks.
    pub fn check(&self, shown: &Presented<'_>, present: Present) -> Result<Admission, Refused> {
        match self.look(shown, present)? {
            Outcome::Admitted(admission) => Ok(admission),
            Outcome::Stale(stale) => Err(stale.refused()),
        }
    }

    /// Checks a certificate for a task, by what leads from it up to the broker's bundle: all but its audience and what it allows,
    /// which only its lease says.
    ///
    /// # Errors
    /// [`Refused`], for the first rule that it breaks.
    pub fn check_certificate(
        &self,
        (leaf, intermediates): (&[u8], &[&[u8]]),
        present: Present,
    ) -> Result<Admission, Refused> {
        match self.look_at_certificate((leaf, intermediates), present)? {
            Outcome::Admitted(admission) => Ok(admission),
            Outcome::Stale(stale) => Err(stale.refused()),
        }
    }

    pub(super) fn look(&self, shown: &Presented<'_>, present: Present) -> Result<Outcome, Refused> {
        let now = self.mirror.now(&self.mirror.view(), present);
        let credential = self.verified(shown.token.as_bytes(), |trust| {
            Ok(trust.verify_token(shown.token, now)?.into())
        })?;
        let token = credential.token().ok_or(Refused::Nothing)?;
        if now >= credential.expires() {
            return Err(AccessTokenError::from(ClaimError::Expired).into());
        }
        if token.audience != self.rules.audience {
            return Err(Refused::Audience);
        }
        let proof = self.prove(token.confirmation, shown, (now, present.moment))?;
        let outcome = self.judge(&credential, present)?;
        let lacks = |action: &&&str| !credential.allows(&self.rules.audience, action);
        if let Some(action) = shown.actions.iter().find(lacks) {
            return Err(Refused::Action((*action).to_owned()));
        }
        Ok(match outcome {
            Outcome::Admitted(admission) => Outcome::Admitted(self.once(admission, proof, now)?),
            Outcome::Stale(stale) => Outcome::Stale(Stale { proof, ..stale }),
        })
    }

    /// Lets in what a broker said to be active that was asked at `asked`, by what is known of it now.
    // INVARIANT (no later than Δ): the broker read the store after it was asked. What is known to be dead is so whatever it said.
    pub(super) fn confirm(
        &self,
        stale: Stale,
        asked: Present,
        present: Present,
    ) -> Result<Admission, Refused> {
        let is_young = present.since(asked) < stale.delta();
        let admission = match self.judge(stale.admission.credential(), present)? {
            Outcome::Admitted(admission) => admission,
            Outcome::Stale(again) if is_young => again.admission,
            Outcome::Stale(again) => return Err(again.why),
        };
        let now = self.mirror.now(&self.mirror.view(), present);
        self.once(admission, stale.proof, now)
    }

    /// Lets in, if nobody was with the same proof.
    // INVARIANT (proof once): only who is let in takes room, and takes it before that is told.
    fn once(
        &self,
        admission: Admission,
        proof: Option<Proof>,
        now: Stamp,
    ) -> Result<Admission, Refused> {
        if let Some(proof) = proof {
            self.replays.take(&proof, now)?;
        }
        Ok(admission)
    }

    pub(super) fn nonces(&self) -> &Nonces {
        &self.nonces
    }

    pub(super) fn look_at_certificate(
        &self,
        (leaf, intermediates): (&[u8], &[&[u8]]),
        present: Present,
    ) -> Result<Outcome, Refused> {
        let now = self.mirror.now(&self.mirror.view(), present);
        let credential = self.verified(leaf, |trust| {
            let oid = &self.rules.task_extension;
            Ok(trust.verify_certificate(leaf, intermediates, oid, now)?.into())
        })?;
        if credential.token().is_some() || now >= credential.expires() {
            return Err(Refused::Certificate(LeafError::Expired.into()));
        }
        self.judge(&credential, present)
    }

    /// Verified anew, or as it was before with the same keys.
    fn verified(
        &self,
        text: &[u8],
        verify: impl FnOnce(&Trust) -> Result<Credential, Refused>,
    ) -> Result<Arc<Credential>, Refused> {
        let trust = self.trust.load();
        let trust = trust.as_ref().ok_or(Refused::NoKeys)?;
        if let Some(known) = self.known.get(text, trust) {
            return Ok(known);
        }
        let credential = Arc::new(verify(trust)?);
        self.known.put(text, trust, &credential);
        Ok(credential)
    }

    /// That whoever shows the token holds what it is bound to. The proof, if there is one, was perhaps shown before.
    fn prove(
        &self,
        confirmation: Option<Confirmation>,
        shown: &Presented<'_>,
        now: (Stamp, Moment),
    ) -> Result<Option<Proof>, Refused> {
        match (confirmation, shown.scheme) {
            (Some(Confirmation::Certificate(bound)), Scheme::Bearer) => {
                if shown.certificate != Some(bound) {
                    return Err(Refused::OtherCertificate);
                }
                Ok(None)
            }
            (Some(Confirmation::Key(bound)), Scheme::Dpop) => {
                self.prove_key(bound, shown, now).map(Some)
            }
            (None, Scheme::Bearer) if self.rules.takes_unbound => Ok(None),
            (None, Scheme::Bearer) => Err(Refused::Unbound),
            (Some(Confirmation::Certificate(_)) | None, Scheme::Dpop)
            | (Some(Confirmation::Key(_)), Scheme::Bearer) => Err(Refused::Scheme),
        }
    }

    fn prove_key(
        &self,
        bound: [u8; 32],
        shown: &Presented<'_>,
        (now, at): (Stamp, Moment),
    ) -> Result<Proof, Refused> {
        let proof = shown.proof.ok_or(Refused::NoProof)?;
        let (method, path) = shown.request;
        let uris = self.rules.targets.iter().map(|target| target.with_path(path));
        let uris: Vec<HttpsUri> = uris.filter_map(Result::ok).collect();
        let expect = Expect { method, uris: &uris, token: Some(shown.token), nonce: None };
        let proof = dpop::verify(proof, expect, now)?;
        if proof.thumbprint != bound {
            return Err(Refused::OtherKey);
        }
        self.nonces.check(&proof, now, at)?;
        Ok(proof)
    }

    /// Whether it lives, by one view. It is noted as let in before the view is read; see [`Admission`].
    fn judge(&self, credential: &Arc<Credential>, present: Present) -> Result<Outcome, Refused> {
        let admission = Admission::enter(&self.mirror, Arc::clone(credential));
        let view = self.mirror.view();
        let delta = credential.execution().freshness;
        let is_fresh = view.is_within(present, delta);
        // INVARIANT (time does not go back): by this view's own present, see `Mirror::now`.
        if self.mirror.now(&view, present) >= credential.expires() {
            return Err(AccessTokenError::from(ClaimError::Expired).into());
        }
        match (view.judge(&credential.facts()), is_fresh) {
            (Ok(()), true) => Ok(Outcome::Admitted(admission)),
            // Who knows too little cannot tell an unknown incarnation from a new one.
            (Ok(()) | Err(Dead::IncarnationUnknown), false) => {
                let why = Refused::Stale(delta);
                Ok(Outcome::Stale(Stale { admission, proof: None, why }))
            }
            (Err(dead), _) => Err(dead.into()),
        }
    }
}

/// Whether newer keys could make it another answer.
pub(super) fn wants_keys(refused: &Refused) -> bool {
    matches!(refused, Refused::NoKeys | Refused::Token(AccessTokenError::Jws(JwsError::UnknownKey)))
}
