//! Every service behind the gate, as one router.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::server::Builder;

use super::credentials::Credentials;
use super::gate::{CallLimits, Gate, pass};
use super::operator::Operator;
use super::tasks::Tasks;
use super::verification::Verification;
use super::watches::Watches;
use crate::broker::Broker;
use crate::identity::authn::Authenticator;
use crate::proto::DESCRIPTORS;
use crate::proto::v1::credential_service_server::CredentialServiceServer;
use crate::proto::v1::operator_service_server::OperatorServiceServer;
use crate::proto::v1::task_service_server::TaskServiceServer;
use crate::proto::v1::verification_service_server::VerificationServiceServer;

/// No request of the contract is larger: a grant of 16 KiB, labels and a checkpoint of 5 KiB each, a CSR or token of 8 KiB.
const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// What is asked about health is the name of a service.
const MAX_HEALTH_REQUEST_BYTES: usize = 1024;
/// The services whose health is that of the whole, which is the empty name.
const SERVICES: [&str; 5] = [
    "",
    "leasehold.v1.TaskService",
    "leasehold.v1.CredentialService",
    "leasehold.v1.VerificationService",
    "leasehold.v1.OperatorService",
];

/// What `grpc.health.v1` says. It begins with not serving.
#[derive(Clone, Debug)]
pub struct Health(HealthReporter);

impl Health {
    /// Says the same of every service.
    pub async fn set(&self, is_ready: bool) {
        let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            self.0.set_service_status(service, status).await;
        }
    }
}

/// Reflection could not be offered: our own descriptors are malformed.
#[derive(Debug, thiserror::Error)]
pub enum ReflectionError {
    /// They are not descriptors.
    #[error("the contract's descriptors cannot be read: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// They do not fit together.
    #[error("the contract's descriptors cannot be offered by reflection: {0}")]
    Unfit(#[from] tonic_reflection::server::Error),
}

/// The router of every service, and the hand that says how they are.
///
/// `reflection` also tells the contract to whoever asks.
///
/// # Errors
/// [`ReflectionError`]
pub async fn router(
    broker: Arc<Broker>,
    authenticator: Arc<Authenticator>,
    limits: CallLimits,
    reflection: bool,
) -> Result<(Router, Health), ReflectionError> {
    let health = Health(HealthReporter::new());
    health.set(false).await;
    let reporter = HealthService::from_health_reporter(health.0.clone());
    let reporter = HealthServer::new(reporter);
    let mut routes = Routes::new(reporter.max_decoding_message_size(MAX_HEALTH_REQUEST_BYTES));
    let most = MAX_REQUEST_BYTES;
    let tasks = TaskServiceServer::new(Tasks(broker.clone(), Watches::start(broker.feed())));
    routes = routes.add_service(tasks.max_decoding_message_size(most));
    let credentials = CredentialServiceServer::new(Credentials(broker.clone()));
    routes = routes.add_service(credentials.max_decoding_message_size(most));
    let verification = VerificationServiceServer::new(Verification(broker.clone()));
    routes = routes.add_service(verification.max_decoding_message_size(most));
    let operator = OperatorServiceServer::new(Operator(broker.clone()));
    routes = routes.add_service(operator.max_decoding_message_size(most));
    if reflection {
        let contract = contract()?;
        let offer = || Builder::configure().register_file_descriptor_set(contract.clone());
        routes = routes.add_service(offer().build_v1()?);
        routes = routes.add_service(offer().build_v1alpha()?);
    }
    let gate = Arc::new(Gate::new(broker, authenticator, limits));
    let router = routes.prepare().into_axum_router().layer(from_fn_with_state(gate, pass));
    Ok((router, health))
}

/// The descriptors without those of the store's records, which are nobody's business.
fn contract() -> Result<FileDescriptorSet, prost::DecodeError> {
    let mut descriptors = FileDescriptorSet::decode(DESCRIPTORS)?;
    descriptors.file.retain(|file| file.package() != "leasehold.store.v1");
    Ok(descriptors)
}
