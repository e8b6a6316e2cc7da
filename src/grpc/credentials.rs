//! CredentialService: credentials for tasks, for the agents that do them.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::authz::admitted;
use super::convert::revocation::recorded;
use super::convert::{credential, fields, idempotency};
use crate::broker::Broker;
use crate::broker::access::Rpc;
use crate::proto::v1;
use crate::proto::v1::credential_service_server::CredentialService;

/// The handlers; each demands what the gate left for its own RPC.
pub(super) struct Credentials(pub(super) Arc<Broker>);

/// What the DPoP proof of a call to be issued a credential names.
const ISSUE: &str = "/leasehold.v1.CredentialService/IssueCredential";
/// What that of a renewal names.
const RENEW: &str = "/leasehold.v1.CredentialService/RenewCredential";

type Answer<M> = Result<Response<M>, Status>;

#[async_trait]
impl CredentialService for Credentials {
    async fn issue_credential(
        &self,
        request: Request<v1::IssueCredentialRequest>,
    ) -> Answer<v1::IssueCredentialResponse> {
        let shown = credential::shown_proof(request.metadata(), ISSUE)?;
        let (caller, request) = admitted(request, Rpc::IssueCredential)?;
        let id = idempotency(&request.request_id, "IssueCredential", &request)?;
        let issued = self.0.issue(&caller, &id, credential::issue(request, shown)?).await?;
        Ok(Response::new(credential::issued(issued)))
    }

    async fn renew_credential(
        &self,
        request: Request<v1::RenewCredentialRequest>,
    ) -> Answer<v1::RenewCredentialResponse> {
        let shown = credential::shown_proof(request.metadata(), RENEW)?;
        let (caller, request) = admitted(request, Rpc::RenewCredential)?;
        let id = idempotency(&request.request_id, "RenewCredential", &request)?;
        let lease = fields::lease_id("lease_id", &request.lease_id)?;
        let ttl = credential::ttl(request.ttl)?;
        let proof = credential::renewal_proof(request.csr_der, shown)?;
        let issued = self.0.renew(&caller, &id, lease, ttl, proof).await?;
        Ok(Response::new(credential::renewed(issued)))
    }

    async fn release_credential(
        &self,
        request: Request<v1::ReleaseCredentialRequest>,
    ) -> Answer<v1::ReleaseCredentialResponse> {
        let (caller, request) = admitted(request, Rpc::ReleaseCredential)?;
        let id = idempotency(&request.request_id, "ReleaseCredential", &request)?;
        let lease = fields::lease_id("lease_id", &request.lease_id)?;
        let (view, revoked) = self.0.release(&caller, &id, lease).await?;
        Ok(Response::new(v1::ReleaseCredentialResponse {
            lease: Some(credential::lease(view)),
            revocation: Some(recorded(revoked.recorded_at)),
        }))
    }

    async fn get_lease(
        &self,
        request: Request<v1::GetLeaseRequest>,
    ) -> Answer<v1::GetLeaseResponse> {
        let (caller, request) = admitted(request, Rpc::GetLease)?;
        let lease = fields::lease_id("lease_id", &request.lease_id)?;
        let view = self.0.get_lease(&caller, lease).await?;
        Ok(Response::new(v1::GetLeaseResponse { lease: Some(credential::lease(view)) }))
    }

    async fn list_leases(
        &self,
        request: Request<v1::ListLeasesRequest>,
    ) -> Answer<v1::ListLeasesResponse> {
        let (caller, request) = admitted(request, Rpc::ListLeases)?;
        let task = fields::task_id("task_id", &request.task_id)?;
        let page =
            self.0.list_leases(&caller, task, request.page_size, &request.page_token).await?;
        Ok(Response::new(v1::ListLeasesResponse {
            leases: page.leases.into_iter().map(credential::lease).collect(),
            next_page_token: page.next_page_token,
        }))
    }
}
