//! OperatorService: the kill switch, and what operators look at. Who pulled it, on what and why, stands in the log.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::authz::{admitted, admitted_to_end};
use super::convert::revocation::wait;
use super::convert::{credential, fields, idempotency, operator, task};
use crate::broker::Broker;
use crate::broker::access::Rpc;
use crate::domain::scope::Scope;
use crate::proto::v1;
use crate::proto::v1::operator_service_server::OperatorService;

/// The handlers; each demands what the gate left for its own RPC.
pub(super) struct Operator(pub(super) Arc<Broker>);

type Answer<M> = Result<Response<M>, Status>;

#[async_trait]
impl OperatorService for Operator {
    async fn revoke_lease(
        &self,
        request: Request<v1::RevokeLeaseRequest>,
    ) -> Answer<v1::RevokeLeaseResponse> {
        let (caller, mut request, patience) = admitted_to_end(request, Rpc::RevokeLease)?;
        let wait = wait(&mut request)?;
        let id = idempotency(&request.request_id, "RevokeLease", &request)?;
        let lease = fields::lease_id("lease_id", &request.lease_id)?;
        let reason = request.reason.clone();
        let verb = self.0.revoke_lease(&caller, &id, lease, request.reason);
        let (view, revocation) = patience.run(&self.0, wait, verb).await?;
        tracing::info!(%lease, reason, "revoked");
        Ok(Response::new(v1::RevokeLeaseResponse {
            lease: Some(credential::lease(view)),
            revocation: Some(revocation),
        }))
    }

    async fn revoke_task(
        &self,
        request: Request<v1::RevokeTaskRequest>,
    ) -> Answer<v1::RevokeTaskResponse> {
        let (caller, mut request, patience) = admitted_to_end(request, Rpc::RevokeTask)?;
        let wait = wait(&mut request)?;
        let id = idempotency(&request.request_id, "RevokeTask", &request)?;
        let task = fields::task_id("task_id", &request.task_id)?;
        let reason = request.reason.clone();
        let verb = self.0.end(&caller, &id, Rpc::RevokeTask, task, request.reason);
        let (view, revocation) = patience.run(&self.0, wait, verb).await?;
        tracing::info!(%task, reason, "revoked");
        let (task, revocation) = (Some(task::task(view)), Some(revocation));
        Ok(Response::new(v1::RevokeTaskResponse { task, revocation }))
    }

    async fn quarantine(
        &self,
        request: Request<v1::QuarantineRequest>,
    ) -> Answer<v1::QuarantineResponse> {
        let (caller, mut request, patience) = admitted_to_end(request, Rpc::Quarantine)?;
        let wait = wait(&mut request)?;
        let id = idempotency(&request.request_id, "Quarantine", &request)?;
        let scope = operator::scope(&request.scope)?;
        let (text, reason) = (scope.to_string(), request.reason.clone());
        let doubt = self.0.doubt(&scope);
        let warning = doubt.map(|doubt| format!("{doubt}: is `{text}` misspelt?"));
        let verb = async {
            let revoked = self.0.quarantine(&caller, &id, scope, request.reason).await?;
            // It stands, and whoever reads the log need not wait for verifiers.
            tracing::info!(scope = text, reason, "quarantined");
            Ok(((), revoked))
        };
        let ((), revocation) = patience.run(&self.0, wait, verb).await?;
        let revocation = Some(revocation);
        let warning = warning.unwrap_or_default();
        Ok(Response::new(v1::QuarantineResponse { scope: text, revocation, warning }))
    }

    async fn lift_quarantine(
        &self,
        request: Request<v1::LiftQuarantineRequest>,
    ) -> Answer<v1::LiftQuarantineResponse> {
        let (caller, request) = admitted(request, Rpc::LiftQuarantine)?;
        let id = idempotency(&request.request_id, "LiftQuarantine", &request)?;
        let scope = operator::scope(&request.scope)?;
        let (text, reason) = (scope.to_string(), request.reason.clone());
        let is_key = matches!(scope, Scope::Key(_));
        let lifted = self.0.lift_quarantine(&caller, &id, scope, request.reason).await?;
        let warning = match (lifted.was_quarantined, is_key) {
            (false, _) => format!("`{text}` was not quarantined: nothing changed"),
            (true, true) => {
                "the key stays out of use: what it signed is dead, and nothing is signed with it again"
                    .to_owned()
            }
            (true, false) => String::new(),
        };
        if lifted.was_quarantined {
            tracing::info!(scope = text, reason, "quarantine lifted");
        }
        let lifted_at = Some(fields::timestamp(lifted.at));
        Ok(Response::new(v1::LiftQuarantineResponse { scope: text, lifted_at, warning }))
    }

    async fn list_tiers(
        &self,
        request: Request<v1::ListTiersRequest>,
    ) -> Answer<v1::ListTiersResponse> {
        let (caller, _) = admitted(request, Rpc::ListTiers)?;
        let tiers = self.0.tiers(&caller)?.into_iter().map(operator::tier).collect();
        Ok(Response::new(v1::ListTiersResponse { tiers }))
    }

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Answer<v1::GetStatusResponse> {
        let (caller, _) = admitted(request, Rpc::GetStatus)?;
        let status = self.0.status(&caller).await?;
        Ok(Response::new(operator::status(status, self.0.settings())))
    }
}
