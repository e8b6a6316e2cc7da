//! Who makes a call that goes on: asked again and again, since a stream outlives certificates, bundles and quarantines.

use std::sync::Arc;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, request};
use tonic::Status;

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
        let svid = head.extensions.get::<PeerInfo>().and_then(|peer| peer.svid.clone());
        Self { broker, authenticator, svid, authorization, rpc }
    }

    /// Whether the caller may still make it. Its trust domain's or issuer's quarantine does not end it: a verifier that is cut off
    /// refuses what is alive. Its own does.
    // INVARIANT (no longer than its identity): a stream ends when a new call of the same caller would be refused.
    pub(super) async fn check(&self) -> Result<(), Status> {
        let now = self.broker.now();
        let svid = self.svid.as_deref();
        let identity = self.authenticator.authenticate(svid, &self.authorization, now).await?;
        let own = Scope::Principal(identity.principal().clone());
        let caller = Caller::new(identity, &self.broker.settings().roles)?;
        caller.admit(self.rpc)?;
        if self.broker.feed().is_quarantined(&[own]) {
            return Err(Refusal::Quarantined.into());
        }
        Ok(())
    }
}
