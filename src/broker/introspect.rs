//! introspect: is this credential active now, as the store knows it.

use serde_json::{Value, json};

use crate::broker::Broker;
use crate::broker::access::{Caller, Rpc};
use crate::broker::error::BrokerError;
use crate::domain::execution::Execution;
use crate::domain::id::{LeaseId, TaskId};
use crate::domain::lease::{Kind, Lease};
use crate::domain::scope::Reach;
use crate::domain::time::Stamp;
use crate::jose::access_token::{self, AccessToken, Confirmation};
use crate::spiffe::task_certificate::TaskCertificate;
use crate::spiffe::task_jwt_svid::{self, TaskJwtSvid};
use crate::store::{Entries, Query, Record, RecordKey};

/// A credential that somebody shows.
#[derive(Clone, Copy)]
pub enum Presented<'a> {
    /// A compact JWS.
    Token(&'a str),
    /// DER of a certificate.
    Certificate(&'a [u8]),
}

/// What an active credential says.
#[derive(Clone, Debug)]
pub struct Introspected {
    /// The claims by the names of RFC 7662 section 2.2, `active` among them.
    pub claims: Value,
    /// When it expires.
    pub expires: Stamp,
}

/// A credential whose signature and time hold.
enum Verified {
    Token(Box<AccessToken>),
    Certificate(Box<TaskCertificate>),
    JwtSvid(Box<TaskJwtSvid>),
}

impl Broker {
    /// Whether a credential is active; `None` says nothing of why not. To a verifier that the credential's audience does
    /// not name it is not active; a certificate without audience may be asked about by any verifier.
    ///
    /// # Errors
    /// The caller is neither verifier nor operator; or the store did not answer, which is never "active".
    pub async fn introspect(
        &self,
        caller: &Caller,
        presented: Presented<'_>,
    ) -> Result<Option<Introspected>, BrokerError> {
        caller.admit(Rpc::IntrospectCredential)?;
        let Some(verified) = self.verify(&presented) else { return Ok(None) };
        let Some(lease) = self.living_lease(&verified).await? else { return Ok(None) };
        if !may_ask(caller, &verified, &lease) {
            return Ok(None);
        }
        Ok(Some(match &verified {
            Verified::Token(token) => of_token(token),
            Verified::Certificate(certificate) => of_certificate(certificate, &lease),
            Verified::JwtSvid(svid) => of_jwt_svid(svid, &lease),
        }))
    }

    /// The lease that a credential of ours names, if its signature and time hold.
    pub(super) fn presented_lease(&self, presented: &Presented<'_>) -> Option<LeaseId> {
        self.verify(presented).map(|verified| verified.execution().lease)
    }

    /// What holds by itself.
    // INVARIANT (quarantined key): whatever it signed is what anybody may have written.
    fn verify(&self, presented: &Presented<'_>) -> Option<Verified> {
        let verified = self.verify_signature(presented)?;
        (!self.parts.feed.is_condemned(verified.signing_key())).then_some(verified)
    }

    fn verify_signature(&self, presented: &Presented<'_>) -> Option<Verified> {
        let (keys, now) = (self.keys(), self.now());
        match presented {
            Presented::Token(token) => {
                // Each kind by its own function: type, issuer and keys differ, so at most one takes it.
                let access =
                    access_token::verify(token, keys.verifying_keys(), &self.settings.issuer, now);
                let access = access.map(|token| Verified::Token(Box::new(token)));
                let (svids, settings) = (keys.jwt_svid_verifying_keys(), keys.settings());
                let issuer = task_jwt_svid::issuer(&settings.base_url);
                let expected = (issuer.as_str(), &settings.trust_domain);
                let svid = || TaskJwtSvid::verify(token, svids, expected, now).ok();
                access.ok().or_else(|| svid().map(|svid| Verified::JwtSvid(Box::new(svid))))
            }
            Presented::Certificate(der) => TaskCertificate::verify(
                der,
                keys.authorities(),
                (&keys.settings().trust_domain, &keys.settings().task_extension),
                now,
            )
            .ok()
            .map(|certificate| Verified::Certificate(Box::new(certificate))),
        }
    }

    /// The record of a credential's lease, if all of section 4 holds. A missing lease or task means no.
    async fn living_lease(&self, verified: &Verified) -> Result<Option<Lease>, BrokerError> {
        let execution = verified.execution();
        let reach = verified.reach();
        let tasks: Vec<TaskId> = execution.path.hops().map(|hop| hop.task).collect();
        let mut records: Vec<RecordKey> = tasks.iter().copied().map(RecordKey::Task).collect();
        records.push(RecordKey::Lease(execution.lease));
        let entries =
            Entries::Hitting { tasks, reach: reach.clone(), lease: Some(execution.lease) };
        let partition = execution.lease.partition();
        if !self.parts.upkeep.constants().partitions.contains(partition) {
            return Ok(None);
        }
        let mut snapshot = self.read(Query::new(partition, records, entries)).await?;
        let Some(Some(Record::Lease(lease))) = snapshot.records.pop() else { return Ok(None) };
        let alive = snapshot.lattice.judge(&execution.facts(&reach)).is_ok()
            && self.is_active(&snapshot)
            && lease.draft.path.own().task == execution.path.own().task
            && lease.draft.kind == verified.kind()
            && verified.expires() > self.now();
        Ok(alive.then_some(*lease))
    }
}

impl Verified {
    fn kind(&self) -> Kind {
        match self {
            Self::Token(_) => Kind::AccessToken,
            Self::Certificate(_) => Kind::X509Svid,
            Self::JwtSvid(_) => Kind::JwtSvid,
        }
    }

    fn execution(&self) -> &Execution {
        match self {
            Self::Token(token) => &token.execution,
            Self::Certificate(certificate) => &certificate.execution,
            Self::JwtSvid(svid) => &svid.execution,
        }
    }

    fn signing_key(&self) -> &str {
        match self {
            Self::Token(token) => &token.signing_key,
            Self::Certificate(certificate) => &certificate.signing_key,
            Self::JwtSvid(svid) => &svid.signing_key,
        }
    }

    fn reach(&self) -> Vec<Reach> {
        match self {
            Self::Token(token) => token.full_reach(),
            Self::Certificate(certificate) => certificate.full_reach(),
            Self::JwtSvid(svid) => svid.full_reach(),
        }
    }

    fn expires(&self) -> Stamp {
        match self {
            Self::Token(token) => Stamp::from_seconds(token.expires_seconds),
            Self::Certificate(certificate) => certificate.expires,
            Self::JwtSvid(svid) => Stamp::from_seconds(svid.expires_seconds),
        }
    }
}

fn may_ask(caller: &Caller, verified: &Verified, lease: &Lease) -> bool {
    let roles = caller.roles();
    let audience = match verified {
        Verified::Token(token) => &token.audience,
        Verified::Certificate(_) => &lease.draft.audience,
        Verified::JwtSvid(svid) => &svid.audience,
    };
    let named = roles.audiences.contains(audience);
    let unnamed = audience.is_empty() && matches!(verified, Verified::Certificate(_));
    roles.operator || (roles.verifier && (named || unnamed))
}

fn of_token(token: &AccessToken) -> Introspected {
    let mut claims = token.claims();
    if let Value::Object(members) = &mut claims {
        members.insert("active".into(), true.into());
        members.insert("token_type".into(), Confirmation::token_type(token.confirmation).into());
    }
    Introspected { claims, expires: Stamp::from_seconds(token.expires_seconds) }
}

fn of_jwt_svid(svid: &TaskJwtSvid, lease: &Lease) -> Introspected {
    let mut claims = svid.claims();
    if let Value::Object(members) = &mut claims {
        let grant = serde_json::to_value(&lease.draft.grant).unwrap_or_default();
        members.insert("active".into(), true.into());
        members.insert("token_type".into(), "Bearer".into());
        members.insert("client_id".into(), lease.draft.holder.as_str().into());
        members.insert("authorization_details".into(), grant);
    }
    Introspected { claims, expires: Stamp::from_seconds(svid.expires_seconds) }
}

fn of_certificate(certificate: &TaskCertificate, lease: &Lease) -> Introspected {
    let execution = &certificate.execution;
    let hops = execution.path.hops().map(|hop| json!([hop.task.to_string(), hop.counter.get()]));
    let mut claims = json!({
        "active": true,
        "sub": certificate.spiffe_id.as_str(),
        "client_id": lease.draft.holder.as_str(),
        "iat": execution.origin.stamp.seconds(),
        "exp": certificate.expires.seconds(),
        "txn": execution.path.root().to_string(),
        "leasehold": {
            "v": 1,
            "path": hops.collect::<Vec<_>>(),
            "lease": execution.lease.to_string(),
            "tier": execution.tier.as_str(),
            "delta_ms": execution.freshness.millis(),
        },
    });
    if let Value::Object(members) = &mut claims {
        let grant = serde_json::to_value(&lease.draft.grant).unwrap_or_default();
        members.insert("authorization_details".into(), grant);
        if !lease.draft.audience.is_empty() {
            members.insert("aud".into(), lease.draft.audience.clone().into());
        }
    }
    Introspected { claims, expires: certificate.expires }
}
