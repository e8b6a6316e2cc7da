//! Who makes a call that goes on: asked again and again, since a stream outlives certificates, bundles and quarantines.

use std::sync::Arc;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, request};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::status;
use crate::broker::Broker;
use crate::broker::access::{Caller, Rpc};
use crate::domain::refusal::Refusal;
use crate::domain::scope::Scope;
use crate::identity::authn::Authenticator;
use crate::identity::peer::PeerSvid;
use crate::listen::connections::PeerInfo;

/// What a call proved its caller by.
#[derive(Clone)]
pub(super) struct Recheck {
    broker: Arc<Broker>,
    authenticator: Arc<Authenticator>,
    svid: Option<Arc<PeerSvid>>,
    authorization: HeaderMap,
    rpc: Rpc,
    closing: CancellationToken,
}

impl Recheck {
    pub(super) fn new(
        broker: Arc<Broker>,
        authenticator: Arc<Authenticator>,
        rpc: Rpc,
        head: &request::Parts,
    ) -> Self {
        let mut authorization = HeaderMap::new();
        for value in head.headers.get_all(AUTHORIZATION) {
            authorization.append(AUTHORIZATION, value.clone());
        }
        let peer = head.extensions.get::<PeerInfo>();
        let svid = peer.and_then(|peer| peer.svid.clone());
        let closing = peer.map(|peer| peer.closing.clone()).unwrap_or_default();
        Self { broker, authenticator, svid, authorization, rpc, closing }
    }

    /// Whether the caller may still make it. Its trust domain's or issuer's quarantine does not end it: a verifier that is cut off
    /// refuses what is alive. Its own does.
    // INVARIANT (no longer than its identity): a stream ends when a new call of the same caller would be refused.
    pub(super) async fn check(&self) -> Result<(), Status> {
        let caller = self.caller().await?;
        let own = Scope::Principal(caller.identity().principal().clone());
        if self.broker.feed().is_quarantined(&[own]) {
            return Err(Refusal::Quarantined.into());
        }
        Ok(())
    }

    /// The caller as it is now, by the identity and the roles that a new call would be judged by.
    pub(super) async fn caller(&self) -> Result<Caller, Status> {
        let now = self.broker.now();
        let svid = self.svid.as_deref();
        let identity = self.authenticator.authenticate(svid, &self.authorization, now).await?;
        let caller = Caller::new(identity, &self.broker.settings().roles)?;
        caller.admit(self.rpc)?;
        Ok(caller)
    }

    /// Ends when the caller is to connect again, and says why: a stream outlives its connection no more than other calls do.
    pub(super) async fn away(&self) -> Status {
        tokio::select! {
            biased;
            () = self.broker.feed().stopping().cancelled() => status::stopping(),
            () = self.closing.cancelled() => status::connect_again(),
        }
    }
}
