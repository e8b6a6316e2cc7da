//! VerificationService: for whatever accepts credentials.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming, async_trait};

use super::authz::admitted;
use super::convert::fields;
use super::recheck::Recheck;
use super::{revocations, status};
use crate::broker::access::Rpc;
use crate::broker::{Broker, Presented};
use crate::domain::refusal::Refusal;
use crate::proto::v1;
use crate::proto::v1::introspect_credential_request::Credential;
use crate::proto::v1::verification_service_server::VerificationService;

/// The handlers; each demands what the gate left for its own RPC, unless it is for everyone.
pub(super) struct Verification(pub(super) Arc<Broker>);

type Answer<M> = Result<Response<M>, Status>;

#[async_trait]
impl VerificationService for Verification {
    async fn introspect_credential(
        &self,
        request: Request<v1::IntrospectCredentialRequest>,
    ) -> Answer<v1::IntrospectCredentialResponse> {
        let (caller, request) = admitted(request, Rpc::IntrospectCredential)?;
        let presented = match &request.credential {
            None => {
                let problem = "give a `token` or a `certificate_der`";
                return Err(Refusal::invalid("credential", problem).into());
            }
            Some(Credential::Token(token)) => Presented::Token(token),
            Some(Credential::CertificateDer(der)) => Presented::Certificate(der),
        };
        let answer = match self.0.introspect(&caller, presented).await? {
            None => v1::IntrospectCredentialResponse::default(),
            Some(introspected) => v1::IntrospectCredentialResponse {
                active: true,
                claims: introspected.claims.to_string(),
                expire_time: Some(fields::timestamp(introspected.expires)),
            },
        };
        Ok(Response::new(answer))
    }

    type WatchRevocationsStream = revocations::Answers;

    async fn watch_revocations(
        &self,
        mut request: Request<Streaming<v1::WatchRevocationsRequest>>,
    ) -> Answer<Self::WatchRevocationsStream> {
        let recheck = request.extensions_mut().remove::<Recheck>();
        let recheck = recheck.ok_or_else(status::not_admitted)?;
        let (caller, inbound) = admitted(request, Rpc::WatchRevocations)?;
        let principal = caller.identity().principal().as_str();
        revocations::watch(self.0.feed(), principal, recheck, inbound).await.map(Response::new)
    }

    async fn get_trust_bundle(
        &self,
        _: Request<v1::GetTrustBundleRequest>,
    ) -> Answer<v1::GetTrustBundleResponse> {
        // Its keys are another store's, and whoever took them would take none of this one's credentials.
        self.0.feed().must_be_here()?;
        let settings = self.0.settings();
        Ok(Response::new(v1::GetTrustBundleResponse {
            trust_domain: settings.trust_domain.clone(),
            spiffe_bundle: self.0.published_bundle().to_document().to_string(),
            access_token_jwks: self.0.published_access_token_keys().to_document().to_string(),
            issuer: settings.issuer.clone(),
        }))
    }
}
