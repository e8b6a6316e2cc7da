//! Keeps one credential alive while the command runs: renews it before it ends, tries again when that fails, and takes it back
//! from the command when it is dead.
//!
//! ```text
//!  issue ──▶ living ──renew──▶ living …     the task changed: issue anew     it is suspended: nothing until it goes on
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tonic::Code;

use super::driver::{View, between};
use super::handed::TokenFiles;
use super::schedule::{renew_in, retry_in};
use super::tell::Tell;
use super::verdict::Over;
use super::{Terms, at, chance};
use crate::cli::arguments;
use crate::cli::client::Client;
use crate::cli::connection::Connection;
use crate::cli::failure::Failure;
use crate::cli::fresh_key::FreshKey;
use crate::cli::show;
use crate::domain::secret::Secret;
use crate::proto::v1;
use crate::proto::v1::access_token_request::Proof as ProofRequest;
use crate::proto::v1::issue_credential_request::Credential;

/// Issue times are in whole seconds, so a life may be a second shorter than it looks.
const ROUNDING: Duration = Duration::from_secs(1);

/// A token that was issued, and what belongs to it.
#[derive(Debug)]
pub(super) struct Minted {
    pub(super) token: Secret,
    pub(super) token_type: String,
    pub(super) audience: String,
    pub(super) task_id: String,
    pub(super) epoch: u64,
    pub(super) lease_id: String,
    /// When it ends, by the broker's clock.
    pub(super) expires: String,
    /// The same by ours.
    pub(super) until: Instant,
    /// The certificate that it is bound to, where one was made for it, with its key.
    pub(super) pair: Option<(Vec<Vec<u8>>, Arc<FreshKey>)>,
}

/// What the command may have now.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    /// A credential that lives.
    Live(Arc<Minted>),
    /// None, and why.
    Empty(String),
}

/// Keeps the token for one audience.
pub(super) struct Keeper {
    agent: Arc<Connection>,
    terms: Terms,
    task_id: String,
    audience: String,
    /// One for as long as the command runs, so that certificate and key always fit.
    key: Option<Arc<FreshKey>>,
    slot: watch::Sender<Slot>,
    files: Option<TokenFiles>,
    /// Whether a new one reaches the command.
    renews: bool,
    due: Option<Instant>,
    failures: u32,
    lease_id: Option<String>,
    nudge: Arc<Notify>,
    tell: Tell,
}

/// The answer to `IssueCredential` and to `RenewCredential`.
struct Answer {
    lease: Option<v1::Lease>,
    credential: Option<v1::Credential>,
    expire_time: Option<prost_types::Timestamp>,
    ttl_clamp: v1::TtlClamp,
}

impl Keeper {
    /// Issues the first token.
    pub(super) async fn first(
        agent: Arc<Connection>,
        terms: Terms,
        (task_id, audience): (String, String),
        (nudge, tell): (Arc<Notify>, Tell),
    ) -> Result<Self, Failure> {
        let key = if terms.needs_key() { Some(Arc::new(FreshKey::generate()?)) } else { None };
        let (slot, _) = watch::channel(Slot::Empty("nothing was issued yet".to_owned()));
        let mut keeper = Self {
            agent,
            terms,
            task_id,
            audience,
            key,
            slot,
            files: None,
            renews: true,
            due: None,
            failures: 0,
            lease_id: None,
            nudge,
            tell,
        };
        let asked = Instant::now();
        let answer = keeper.ask().await?;
        keeper.take(answer, asked)?;
        Ok(keeper)
    }

    /// What the command may have, now and later.
    pub(super) fn slot(&self) -> watch::Receiver<Slot> {
        self.slot.subscribe()
    }

    /// What it is for.
    pub(super) fn audience(&self) -> &str {
        &self.audience
    }

    /// The token as it is now, for a place where it cannot be renewed; empty if there is none.
    pub(super) fn token(&self) -> String {
        self.live().map(|minted| minted.token.expose_text().to_owned()).unwrap_or_default()
    }

    /// The lease, to give it back.
    pub(super) fn lease_id(&self) -> Option<&str> {
        self.lease_id.as_deref()
    }

    /// Writes every token to these files from now on.
    pub(super) fn write_to(&mut self, files: TokenFiles) -> Result<(), Failure> {
        if let Slot::Live(minted) = &*self.slot.borrow() {
            files.write(minted)?;
        }
        self.files = Some(files);
        Ok(())
    }

    /// The command has the first token and never sees another.
    pub(super) fn renew_nothing(&mut self) {
        (self.renews, self.due) = (false, None);
    }

    /// Keeps the token alive; returns when a quarantine takes it.
    pub(super) async fn keep(&mut self, mut view: watch::Receiver<View>) -> Over {
        let mut seen = *view.borrow_and_update();
        loop {
            let (due, ends) = (self.due, self.live().map(|minted| minted.until));
            tokio::select! {
                changed = view.changed() => match changed {
                    Ok(()) => {
                        let now = *view.borrow_and_update();
                        if now != seen {
                            self.follow(now);
                        }
                        seen = now;
                    }
                    Err(_) => return std::future::pending().await,
                },
                () = at(ends) => self.expired(),
                () = at(due) => if let Some(over) = self.next().await {
                    return over;
                },
            }
        }
    }

    /// The task stands otherwise than before.
    fn follow(&mut self, view: View) {
        if view.is_suspended {
            self.withdraw("the task is suspended");
            self.due = None;
        } else if self.live().is_none_or(|minted| minted.epoch < view.epoch) {
            self.withdraw("the task changed");
            self.due = Some(Instant::now()).filter(|_| self.renews);
        }
    }

    fn expired(&mut self) {
        self.withdraw("it has expired");
        if !self.renews {
            self.tell.say("expired", "the token in the command's environment has expired");
        }
    }

    /// Gets the next one, or plans another attempt.
    async fn next(&mut self) -> Option<Over> {
        let asked = Instant::now();
        let taken = match self.ask().await {
            Ok(answer) => self.take(answer, asked),
            Err(failure) => Err(failure),
        };
        let Err(failure) = taken else {
            if self.failures > 0 {
                self.tell
                    .say("renewed", &format!("there is a token for `{}` again", self.audience));
            }
            self.failures = 0;
            return None;
        };
        match failure.reason() {
            "QUARANTINED" => return Some(Over::Quarantined),
            "TASK_ENDED" | "TASK_SUSPENDED" => {
                self.withdraw("the task is suspended or has ended");
                self.nudge.notify_one();
            }
            _ => {}
        }
        self.failures = self.failures.saturating_add(1);
        let retry = retry_in(self.failures, chance(), failure.retry_after());
        self.due = Some(Instant::now() + retry).filter(|_| !is_final(&failure));
        let audience = &self.audience;
        if self.due.is_none() {
            let text = format!(
                "there will be no further token for `{audience}` as the task stands: {failure}"
            );
            self.tell.say("refused", &text);
        } else if self.failures == 1 {
            self.tell.say(
                "delayed",
                &format!("no new token for `{audience}` yet: {failure}; trying again"),
            );
        }
        None
    }

    /// A renewal where there is a lease that can be renewed, else a new one.
    async fn ask(&self) -> Result<Answer, Failure> {
        let client = self.agent.open().await?;
        if let Some(lease_id) = &self.lease_id {
            match self.renew(&client, lease_id.clone()).await {
                // The lease is over, which says nothing of its task.
                Err(failure) if matches!(failure.reason(), "LEASE_REVOKED" | "NOT_FOUND") => {}
                answered => return answered,
            }
        }
        self.issue(&client).await
    }

    async fn issue(&self, client: &Client) -> Result<Answer, Failure> {
        let request_id = uuid::Uuid::new_v4().to_string();
        let proof = match (&self.key, self.terms.is_bearer()) {
            (Some(key), _) => Some(ProofRequest::CsrDer(key.csr_der.clone())),
            (None, is_bearer) => is_bearer.then_some(ProofRequest::Bearer(true)),
        };
        let request = v1::IssueCredentialRequest {
            request_id: request_id.clone(),
            task_id: self.task_id.clone(),
            audience: self.audience.clone(),
            ttl: self.terms.ttl.map(arguments::wire),
            credential: Some(Credential::AccessToken(v1::AccessTokenRequest { proof })),
            ..Default::default()
        };
        let answer =
            client.change(&request_id, client.credentials().issue_credential(request)).await?;
        let ttl_clamp = answer.ttl_clamp();
        let v1::IssueCredentialResponse { lease, credential, expire_time, .. } = answer;
        Ok(Answer { lease, credential, expire_time, ttl_clamp })
    }

    async fn renew(&self, client: &Client, lease_id: String) -> Result<Answer, Failure> {
        let request_id = uuid::Uuid::new_v4().to_string();
        let request = v1::RenewCredentialRequest {
            request_id: request_id.clone(),
            lease_id,
            ttl: self.terms.ttl.map(arguments::wire),
            csr_der: self.key.as_ref().map(|key| key.csr_der.clone()).unwrap_or_default(),
        };
        let answer =
            client.change(&request_id, client.credentials().renew_credential(request)).await?;
        let ttl_clamp = answer.ttl_clamp();
        let v1::RenewCredentialResponse { lease, credential, expire_time, .. } = answer;
        Ok(Answer { lease, credential, expire_time, ttl_clamp })
    }

    /// Hands a new one over, and plans the one after it.
    fn take(&mut self, answer: Answer, asked: Instant) -> Result<(), Failure> {
        let lease = answer.lease.ok_or(Failure::Answer("lease"))?;
        let credential = answer.credential.ok_or(Failure::Answer("credential"))?;
        self.lease_id = Some(lease.lease_id.clone());
        let expires = show::time(answer.expire_time).ok_or(Failure::Answer("expire_time"))?;
        let life = between(lease.issue_time, answer.expire_time).unwrap_or_default();
        let life = life.saturating_sub(ROUNDING);
        let pair = self.key.clone().map(|key| (credential.certificate_chain_der, key));
        if credential.access_token.is_empty()
            || pair.as_ref().is_some_and(|(chain, _)| chain.is_empty())
        {
            return Err(Failure::Answer("credential"));
        }
        let minted = Minted {
            token: Secret::from(credential.access_token),
            token_type: credential.token_type,
            audience: lease.audience,
            task_id: lease.task_id,
            epoch: lease.epoch,
            lease_id: lease.lease_id,
            expires,
            until: asked + life,
            pair,
        };
        if let Some(files) = &self.files {
            files.write(&minted)?;
        }
        let extensible =
            !matches!(answer.ttl_clamp, v1::TtlClamp::TaskDeadline | v1::TtlClamp::LeaseCeiling);
        self.due = Some(asked + renew_in(life, extensible, chance())).filter(|_| self.renews);
        self.slot.send_replace(Slot::Live(Arc::new(minted)));
        Ok(())
    }

    fn live(&self) -> Option<Arc<Minted>> {
        match &*self.slot.borrow() {
            Slot::Live(minted) => Some(minted.clone()),
            Slot::Empty(_) => None,
        }
    }

    /// The command has none from now on. What it copied is dead by itself.
    fn withdraw(&self, why: &str) {
        if let Some(files) = &self.files {
            files.remove();
        }
        self.slot.send_replace(Slot::Empty(why.to_owned()));
    }
}

/// Whether asking again is of no use until the task changes.
fn is_final(failure: &Failure) -> bool {
    let by_code = matches!(
        failure.code(),
        Some(Code::NotFound | Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented)
    );
    by_code || matches!(failure.reason(), "CEILING_REACHED" | "INSTANCE_MISMATCH" | "PROOF_INVALID")
}
