//! issue: three facts — who calls, what policy permits, what the store committed — and a credential made of them.

use std::sync::Arc;

use crate::broker::access::{Caller, Rpc};
use crate::broker::begin::pin_of;
use crate::broker::commit::{Committed, guard};
use crate::broker::error::BrokerError;
use crate::broker::life::may_be_listed;
use crate::broker::request::{CredentialRequest, Idempotency, IssueRequest, TokenProof, hash};
use crate::broker::{Broker, LeaseState, LeaseView};
use crate::domain::certificate::CertificateDraft;
use crate::domain::clamp::Limits;
use crate::domain::decide;
use crate::domain::event::{Event, EventKind};
use crate::domain::grant::Grant;
use crate::domain::id::LeaseId;
use crate::domain::lease::{Draft, Kind, Lease, full_reach};
use crate::domain::line::Line;
use crate::domain::principal::Principal;
use crate::domain::refusal::Refusal;
use crate::domain::scope::Scope;
use crate::domain::task::Task;
use crate::domain::tier::{ProofRequirement, Tier};
use crate::domain::time::Stamp;
use crate::jose::dpop::Proof;
use crate::mint::csr::ProvedKey;
use crate::mint::{self, ActiveLease, MintError, MintedToken};
use crate::mint::{MintedCertificate, MintedJwtSvid};
use crate::policy::{self, Action, Permit, Question};
use crate::store::{Commit, IssueTimes, Lane, Replay, Subject, Write, Written};
use crate::telemetry::metrics;

/// An issued credential, and what the agent needs to go on.
#[derive(Debug)]
pub struct Issued {
    /// The lease.
    pub lease: LeaseView,
    /// The credential itself; shown once.
    pub credential: Minted,
    /// The task's checkpoint.
    pub checkpoint: Vec<u8>,
    /// The task's step.
    pub step: String,
}

/// A credential.
#[derive(Debug)]
pub enum Minted {
    /// An access token, and the certificate that it is bound to where one was minted with it.
    AccessToken(MintedToken),
    /// An X.509-SVID.
    X509Svid(MintedCertificate),
    /// A JWT-SVID.
    JwtSvid(MintedJwtSvid),
}

/// What a credential is bound to, once proved.
#[derive(Clone)]
pub(super) enum Binding {
    /// The caller's certificate.
    Caller([u8; 32]),
    /// A key that a CSR proved.
    Proved(ProvedKey),
    /// A key that a DPoP proof proved.
    Dpop(Proof),
    /// Nothing.
    Bearer,
}

/// What a credential is to be, whether it is the first of its lease or the next one.
pub(super) struct Wish<'a> {
    pub(super) action: Action,
    /// The epoch that the caller means; `None`: the current one.
    pub(super) expected_epoch: Option<u64>,
    pub(super) kind: Kind,
    pub(super) binding: &'a Binding,
    pub(super) audience: &'a str,
    /// `None`: all that the grant says of the audience.
    pub(super) asked: Option<&'a Grant>,
    pub(super) ttl_seconds: Option<u64>,
    /// The caller's request, which names a new lease.
    pub(super) id: &'a Idempotency,
    /// The lease that goes on.
    pub(super) held: Option<&'a Lease>,
}

/// A wish that may be granted, as far as the broker knows.
pub(super) struct Granted {
    pub(super) permit: Permit,
    pub(super) draft: Arc<Draft>,
    pub(super) limits: Limits,
    /// The task, if the caller's instance has to be pinned to it.
    pub(super) pinned: Option<Task>,
}

/// What is decided before the commit.
pub(super) struct Decided {
    pub(super) permit: Permit,
    pub(super) draft: Arc<Draft>,
    pub(super) line: Arc<Line>,
}

impl Broker {
    /// Issues a credential for the caller's task.
    ///
    /// # Errors
    /// The task is not the caller's, not active, in another epoch or held by another instance; the grant does not allow it;
    /// policy says no; the proof does not hold; too little time is left; or a quarantine blocks it.
    pub async fn issue(
        &self,
        caller: &Caller,
        id: &Idempotency,
        request: IssueRequest,
    ) -> Result<Issued, BrokerError> {
        caller.admit(Rpc::IssueCredential)?;
        let (kind, binding) = self.bind(caller, &request.credential)?;
        if request.audience.is_empty() && kind != Kind::X509Svid {
            return Err(Refusal::invalid("audience", "a token is for exactly one audience").into());
        }
        let (line, _) = self.line_for(caller, Rpc::IssueCredential, request.task).await?;
        if let Binding::Dpop(proof) = &binding {
            self.take_proof((caller, id), proof).await?;
        }
        let (request, binding) = (&request, &binding);
        let built = self.commit_on(line, |whole| async move {
            let line = &*whole;
            let floor = self.floor(request.task.partition());
            let wish = Wish {
                action: Action::Issue,
                expected_epoch: request.expected_epoch,
                kind,
                binding,
                audience: &request.audience,
                asked: request.asked.as_ref(),
                ttl_seconds: request.ttl_seconds,
                id,
                held: None,
            };
            let Granted { permit, draft, limits, pinned } =
                self.grant(caller, line, floor, &wish).await?;
            let mut commit = self.credential_commit((line, floor), &draft, limits, (caller, id))?;
            commit.writes.extend(pinned.map(|task| self.write(task)));
            let event = self.event(EventKind::CredentialIssued, Some((caller, id)), "")?;
            commit.event = Some(credential_event(event, &draft));
            Ok((commit, Decided { permit, draft, line: whole }))
        });
        let (committed, decided) = built.await?;
        self.minted(caller, committed, decided).await
    }

    /// Asks everything that a credential must pass before its commit. A renewal passes all that its first issue did, as things
    /// are now.
    ///
    /// # Errors
    /// The first rule that says no.
    pub(super) async fn grant(
        &self,
        caller: &Caller,
        line: &Line,
        floor: Stamp,
        wish: &Wish<'_>,
    ) -> Result<Granted, BrokerError> {
        let task = line.own();
        caller.on_task(Rpc::IssueCredential, task)?;
        let tier = self.tier_of(caller, task)?;
        let current = task.epoch.get();
        if let Some(expected) = wish.expected_epoch.filter(|expected| *expected != current) {
            return Err(Refusal::EpochStale { expected, current }.into());
        }
        line.must_be_active(floor, self.store_now())?;
        must_be_bound(tier, wish.kind, wish.binding)?;
        let pinned = decide::pin(task, pin_of(caller))?;
        let asked = asked(&task.grant, wish)?;
        let permit = self.permit(caller, line, wish.action, wish.audience, &asked).await?;
        let draft = Arc::new(self.draft(caller, line, tier, wish, &permit)?);
        mint::must_fit(&self.keys(), &draft).map_err(not_minted)?;
        let limits = self.limits(caller, line, tier, wish.ttl_seconds, &draft)?;
        Ok(Granted { permit, draft, limits, pinned })
    }

    /// Makes the credential of what was committed, or of what was committed when the same was first asked.
    pub(super) async fn minted(
        &self,
        caller: &Caller,
        committed: Committed,
        decided: Decided,
    ) -> Result<Issued, BrokerError> {
        let active = match committed {
            Committed::Done(receipt) => {
                ActiveLease::from_receipt(Arc::unwrap_or_clone(decided.draft), &receipt)
            }
            Committed::Replayed(mut answer) => {
                // A lease that was renewed answers with what it was when it was issued.
                if decided.draft.renewals == 0
                    && let Subject::Lease(lease) = &mut answer.subject
                {
                    **lease = lease.as_issued().ok_or(Refusal::LeaseRevoked)?.clone();
                }
                // The first answer's credential may have died since; then it is not made again.
                if let Subject::Lease(lease) = &answer.subject {
                    self.must_live(lease).await?;
                    if lease.draft.instance != caller.identity().instance() {
                        return Err(Refusal::InstanceMismatch.into());
                    }
                    if lease.draft.jkt != decided.draft.jkt {
                        return Err(another_key().into());
                    }
                }
                ActiveLease::from_answer(&answer)
            }
        };
        let active = active.ok_or(Refusal::RequestIdReused)?;
        let (keys, identity) = (self.keys(), caller.identity());
        let credential = match active.lease().draft.kind {
            Kind::AccessToken => mint::access_token(&keys, identity, &decided.permit, &active)
                .map(Minted::AccessToken),
            Kind::X509Svid => {
                mint::x509_svid(&keys, identity, &decided.permit, &active).map(Minted::X509Svid)
            }
            Kind::JwtSvid => {
                mint::jwt_svid(&keys, identity, &decided.permit, &active).map(Minted::JwtSvid)
            }
        };
        let credential = credential.map_err(not_minted)?;
        let kind = match credential {
            Minted::AccessToken(_) => "access_token",
            Minted::X509Svid(_) => "x509_svid",
            Minted::JwtSvid(_) => "jwt_svid",
        };
        let verb = if active.lease().draft.renewals == 0 { "issue" } else { "renew" };
        metrics::credential_minted(kind, verb);
        let lease = LeaseView { lease: active.into_lease(), state: LeaseState::Active };
        let task = decided.line.own();
        let (checkpoint, step) = (task.checkpoint.clone(), task.step.clone());
        Ok(Issued { lease, credential, checkpoint, step })
    }

    fn bind(
        &self,
        caller: &Caller,
        credential: &CredentialRequest,
    ) -> Result<(Kind, Binding), Refusal> {
        Ok(match credential {
            CredentialRequest::X509Svid(csr) => (Kind::X509Svid, proved(csr)?),
            CredentialRequest::JwtSvid => (Kind::JwtSvid, Binding::Bearer),
            CredentialRequest::AccessToken(TokenProof::Csr(csr)) => {
                (Kind::AccessToken, proved(csr)?)
            }
            CredentialRequest::AccessToken(TokenProof::Dpop(shown)) => {
                (Kind::AccessToken, Binding::Dpop(self.check_proof(shown)?))
            }
            CredentialRequest::AccessToken(TokenProof::Bearer) => {
                (Kind::AccessToken, Binding::Bearer)
            }
            CredentialRequest::AccessToken(TokenProof::CallerCertificate) => {
                (Kind::AccessToken, caller_binding(caller)?)
            }
        })
    }

    /// The tier of a task, if the caller's class may still use it.
    fn tier_of(&self, caller: &Caller, task: &Task) -> Result<&Tier, Refusal> {
        let class = caller.roles().agent.as_ref().ok_or(Refusal::RoleMissing("`agent`"))?;
        self.tier_for(class, &task.tier)
    }

    async fn permit(
        &self,
        caller: &Caller,
        line: &Line,
        action: Action,
        audience: &str,
        asked: &Grant,
    ) -> Result<Permit, BrokerError> {
        let question = Question {
            action,
            principal: caller.identity().principal(),
            instance: caller.identity().instance(),
            task: line.own(),
            audience,
            asked,
            now: self.now(),
        };
        Ok(policy::decide(&*self.parts.policy, &question).await?)
    }

    fn draft(
        &self,
        caller: &Caller,
        line: &Line,
        tier: &Tier,
        wish: &Wish<'_>,
        permit: &Permit,
    ) -> Result<Draft, BrokerError> {
        let (kind, binding) = (wish.kind, wish.binding);
        let task = line.own();
        let principal = caller.identity().principal();
        let mut actors = line.actors(Some(principal));
        let subject = actors.first().cloned().unwrap_or_else(|| principal.clone());
        actors.reverse();
        let request = self.answer_key(caller, wish.id);
        let new = || LeaseId::of_request(task.id.partition(), &request);
        let held = wish.held;
        Ok(Draft {
            id: held.map_or_else(new, |held| held.draft.id),
            request: held.map_or(Some(wish.id.request_hash()), |held| held.draft.request),
            first: held.and_then(|held| held.kept_first(self.now())),
            kind,
            holder: principal.clone(),
            instance: caller.identity().instance().to_owned(),
            key_thumbprint: match binding {
                Binding::Caller(thumbprint) => Some(*thumbprint),
                Binding::Proved(_) | Binding::Dpop(_) | Binding::Bearer => None,
            },
            jkt: match binding {
                Binding::Dpop(proof) => Some(proof.thumbprint),
                Binding::Caller(_) | Binding::Proved(_) | Binding::Bearer => None,
            },
            public_key: match binding {
                Binding::Proved(key) => Some(key.spki_der().to_vec()),
                Binding::Caller(_) | Binding::Dpop(_) | Binding::Bearer => None,
            },
            authority: match (kind, binding) {
                (Kind::AccessToken, Binding::Proved(_)) => Some(self.signer(Kind::X509Svid)?.0),
                (Kind::AccessToken | Kind::X509Svid | Kind::JwtSvid, _) => None,
            },
            audience: permit.audience().to_owned(),
            grant: permit.grant().clone(),
            tier: tier.name.clone(),
            freshness: task.freshness,
            path: line.path(),
            reach: line.reach(Some(principal)),
            jti: self.random()?,
            renewals: held.map_or(0, |held| held.draft.renewals.saturating_add(1)),
            ceiling_seconds: tier.ceiling_seconds,
            signing_key: self.signer(kind)?.0,
            step: task.step.clone(),
            subject,
            actors,
        })
    }

    /// The commit of a credential, but for what is special to issue and renew. It rests on the line and the floor that were
    /// decided on.
    pub(super) fn credential_commit(
        &self,
        (line, floor): (&Line, Stamp),
        draft: &Arc<Draft>,
        limits: Limits,
        by: (&Caller, &Idempotency),
    ) -> Result<Commit, BrokerError> {
        let task = line.own();
        let (caller, id) = by;
        let listed = may_be_listed(&limits).then(|| certificate(draft)).flatten();
        let mut commit = Commit::new(task.id.partition(), Lane::Ordinary);
        commit.guards = line.tasks().map(guard).collect();
        commit.floor = Some(floor);
        commit.before = line.due_at();
        commit.unrevoked = Some(draft.id);
        commit.unblocked = full_reach(&draft.reach, &draft.tier, &draft.signing_key);
        if let Some(authority) = &draft.authority {
            // A token that is minted with a certificate has two signing keys.
            commit.unblocked.push(Scope::Key(authority.clone()).reach());
        }
        commit.times = Some(IssueTimes {
            limits,
            ceiling_key: ceiling_key(task, &draft.holder, &draft.audience),
            // INVARIANT (one ceiling): forgotten only once nothing more can be issued, else it would begin anew.
            ceiling_keep_until: line.deadline(),
            lease_origin: None,
        });
        if let Some(public_key) = &draft.public_key {
            commit.writes.push(Write::ProvedKey {
                key: hash(&[task.root().to_string().as_bytes(), public_key]),
                task: task.id,
                keep_until: line.ancestors().first().map_or(task.deadline, |root| root.deadline),
            });
        }
        commit.writes.push(Write::Lease(Arc::clone(draft)));
        commit.writes.extend(listed.map(|draft| Write::Certificate(Box::new(draft))));
        let written = if draft.renewals == 0 { Written::Issued } else { Written::Renewed };
        let subject = Subject::Lease(written);
        commit.replay = Some(Replay { checked: true, ..self.replay(caller, id, subject) });
        Ok(commit)
    }
}

/// What lists need to know of the certificate of a draft, if it has one.
fn certificate(draft: &Draft) -> Option<CertificateDraft> {
    let authority = draft.certificate_authority()?;
    Some(CertificateDraft {
        jti: draft.jti,
        lease: draft.id,
        path: draft.path.clone(),
        reach: full_reach(&draft.reach, &draft.tier, authority),
        authority: authority.to_owned(),
    })
}

/// What to say of a credential that could not be made.
fn not_minted(error: MintError) -> BrokerError {
    match error.refusal() {
        Some(refusal) => refusal.into(),
        None => BrokerError::Mint(error.to_string()),
    }
}

/// The event of a credential that is committed.
pub(super) fn credential_event(event: Event, draft: &Draft) -> Event {
    Event {
        task: Some(draft.path.own().task),
        lease: Some(draft.id),
        jti: Some(draft.jti),
        ..event
    }
}

/// The proved key of a CSR.
pub(super) fn proved(csr: &[u8]) -> Result<Binding, Refusal> {
    Ok(Binding::Proved(mint::csr::prove(csr)?))
}

/// The caller's own certificate.
pub(super) fn caller_binding(caller: &Caller) -> Result<Binding, Refusal> {
    caller.identity().certificate_thumbprint().map(Binding::Caller).ok_or_else(|| {
        Refusal::ProofInvalid(
            "you showed no client certificate to bind the token to; send a CSR in `csr_der`, ask for `dpop`, or call with your X.509-SVID".into(),
        )
    })
}

/// A lease that is bound to the key of DPoP proofs stays with that key.
pub(super) fn another_key() -> Refusal {
    Refusal::ProofInvalid(
        "the lease is bound to another key; make the proof with that one, or issue a new credential"
            .into(),
    )
}

/// That a credential which the tier wants bound is bound.
fn must_be_bound(tier: &Tier, kind: Kind, binding: &Binding) -> Result<(), Refusal> {
    match (tier.proof, binding) {
        (ProofRequirement::Required, Binding::Bearer) if kind == Kind::JwtSvid => {
            Err(Refusal::ProofInvalid(format!(
                "tier `{}` binds every credential to a key, and whoever holds a JWT-SVID can use it; ask for an access token or an X.509-SVID, or have the task begun in a tier with `proof = \"optional\"`",
                tier.name
            )))
        }
        (ProofRequirement::Required, Binding::Bearer) => Err(Refusal::ProofInvalid(format!(
            "tier `{}` binds every token to a key; leave `bearer` out, and send a CSR or a DPoP proof, or call with your X.509-SVID",
            tier.name
        ))),
        (
            ProofRequirement::Required,
            Binding::Caller(_) | Binding::Proved(_) | Binding::Dpop(_),
        )
        | (ProofRequirement::Optional, _) => Ok(()),
    }
}

/// What is asked for, or all that the grant says of the audience.
fn asked(grant: &Grant, wish: &Wish<'_>) -> Result<Grant, Refusal> {
    if let Some(asked) = wish.asked {
        return Ok(asked.clone());
    }
    match wish.audience {
        "" => Ok(grant.clone()),
        audience => grant
            .for_audience(audience)
            .ok_or_else(|| Refusal::TargetNotAllowed(audience.to_owned())),
    }
}

fn ceiling_key(task: &Task, holder: &Principal, audience: &str) -> [u8; 32] {
    hash(&[task.id.to_string().as_bytes(), holder.as_str().as_bytes(), audience.as_bytes()])
}
