//! A connected client: the services of a broker, each call with our identity.

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::diagnosis::{Called, Caller};
use super::failure::Failure;
use crate::proto::v1::credential_service_client::CredentialServiceClient;
use crate::proto::v1::operator_service_client::OperatorServiceClient;
use crate::proto::v1::task_service_client::TaskServiceClient;
use crate::proto::v1::verification_service_client::VerificationServiceClient;

/// A connected client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) channel: Channel,
    pub(super) bearer: Bearer,
    /// Its address, for messages.
    pub(super) broker: String,
    /// As whom it is called.
    pub(super) caller: Caller,
    /// Whether a person watches, to whom it can be shown what is waited for.
    pub(super) is_live: bool,
}

/// How long a call may take that does not say so itself.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Shows the OIDC token, if there is one, with every call, and says how long it may take.
#[derive(Clone)]
pub(super) struct Bearer(pub(super) Option<MetadataValue<Ascii>>);

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "<bearer>" } else { "<none>" })
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(bearer) = &self.0 {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        if !request.metadata().contains_key("grpc-timeout") {
            request.set_timeout(CALL_TIMEOUT);
        }
        Ok(request)
    }
}

type Service = InterceptedService<Channel, Bearer>;

impl Client {
    /// Who is called by whom, for messages.
    pub(super) fn called(&self) -> Called<'_> {
        Called { broker: &self.broker, caller: self.caller }
    }

    /// The life of tasks.
    pub(super) fn tasks(&self) -> TaskServiceClient<Service> {
        TaskServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// Credentials for agents.
    pub(super) fn credentials(&self) -> CredentialServiceClient<Service> {
        CredentialServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// For whatever accepts credentials.
    pub(super) fn verification(&self) -> VerificationServiceClient<Service> {
        VerificationServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// The kill switch.
    pub(super) fn operators(&self) -> OperatorServiceClient<Service> {
        OperatorServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// The answer of a call that only reads.
    pub(super) async fn read<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        let answer = call.await.map_err(|status| Failure::of_call(&status, self.called(), None))?;
        Ok(answer.into_inner())
    }

    /// The answer of a call that changes something, once for its request id.
    pub(super) async fn change<T>(
        &self,
        request_id: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        let failed = |status| Failure::of_call(&status, self.called(), Some(request_id));
        Ok(call.await.map_err(failed)?.into_inner())
    }
}
