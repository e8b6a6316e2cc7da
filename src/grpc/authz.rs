//! Which RPC a request is for, and the proof that its caller may make it.

use tokio::time::Instant;
use tonic::{Request, Status};

use super::lanes::Room;
use super::status;
use crate::broker::access::{Caller, Relation, Rpc, relations};

const TASKS: &str = "leasehold.v1.TaskService";
const CREDENTIALS: &str = "leasehold.v1.CredentialService";
const VERIFICATION: &str = "leasehold.v1.VerificationService";
const OPERATOR: &str = "leasehold.v1.OperatorService";

/// Every RPC of the contract.
pub const ALL: [Rpc; 26] = [
    Rpc::BeginTask,
    Rpc::DelegateTask,
    Rpc::AdvanceTask,
    Rpc::SuspendTask,
    Rpc::ResumeTask,
    Rpc::CompleteTask,
    Rpc::FailTask,
    Rpc::CancelTask,
    Rpc::Heartbeat,
    Rpc::GetTask,
    Rpc::ListTasks,
    Rpc::WatchTask,
    Rpc::IssueCredential,
    Rpc::RenewCredential,
    Rpc::ReleaseCredential,
    Rpc::GetLease,
    Rpc::ListLeases,
    Rpc::IntrospectCredential,
    Rpc::WatchRevocations,
    Rpc::GetTrustBundle,
    Rpc::RevokeLease,
    Rpc::RevokeTask,
    Rpc::Quarantine,
    Rpc::LiftQuarantine,
    Rpc::ListTiers,
    Rpc::GetStatus,
];

/// Service and method of an RPC, as the contract has them.
pub fn method(rpc: Rpc) -> (&'static str, &'static str) {
    match rpc {
        Rpc::BeginTask => (TASKS, "BeginTask"),
        Rpc::DelegateTask => (TASKS, "DelegateTask"),
        Rpc::AdvanceTask => (TASKS, "AdvanceTask"),
        Rpc::SuspendTask => (TASKS, "SuspendTask"),
        Rpc::ResumeTask => (TASKS, "ResumeTask"),
        Rpc::CompleteTask => (TASKS, "CompleteTask"),
        Rpc::FailTask => (TASKS, "FailTask"),
        Rpc::CancelTask => (TASKS, "CancelTask"),
        Rpc::Heartbeat => (TASKS, "Heartbeat"),
        Rpc::GetTask => (TASKS, "GetTask"),
        Rpc::ListTasks => (TASKS, "ListTasks"),
        Rpc::WatchTask => (TASKS, "WatchTask"),
        Rpc::IssueCredential => (CREDENTIALS, "IssueCredential"),
        Rpc::RenewCredential => (CREDENTIALS, "RenewCredential"),
        Rpc::ReleaseCredential => (CREDENTIALS, "ReleaseCredential"),
        Rpc::GetLease => (CREDENTIALS, "GetLease"),
        Rpc::ListLeases => (CREDENTIALS, "ListLeases"),
        Rpc::IntrospectCredential => (VERIFICATION, "IntrospectCredential"),
        Rpc::WatchRevocations => (VERIFICATION, "WatchRevocations"),
        Rpc::GetTrustBundle => (VERIFICATION, "GetTrustBundle"),
        Rpc::RevokeLease => (OPERATOR, "RevokeLease"),
        Rpc::RevokeTask => (OPERATOR, "RevokeTask"),
        Rpc::Quarantine => (OPERATOR, "Quarantine"),
        Rpc::LiftQuarantine => (OPERATOR, "LiftQuarantine"),
        Rpc::ListTiers => (OPERATOR, "ListTiers"),
        Rpc::GetStatus => (OPERATOR, "GetStatus"),
    }
}

/// The RPC of a `:path`, byte for byte; `None` for every other spelling, and for services that are not the contract's.
pub fn resolve(path: &str) -> Option<Rpc> {
    let (service, name) = path.strip_prefix('/')?.split_once('/')?;
    ALL.into_iter().find(|rpc| method(*rpc) == (service, name))
}

/// Whether an RPC is for everybody, identity or not.
pub fn is_public(rpc: Rpc) -> bool {
    relations(rpc).contains(&Relation::Everyone)
}

/// A caller that may make this one RPC, as far as its roles tell. Only the gate makes it, and every handler demands it.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    pub(super) rpc: Rpc,
    /// `None` only for what is public.
    pub(super) caller: Option<Caller>,
}

/// What the gate leaves for an ending: its place in the lane, and how long its caller will be there.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    pub(super) room: Room,
    /// Until when the verb must have been done.
    pub(super) until: Instant,
    /// Until when the whole call must be answered.
    pub(super) answer_until: Instant,
}

/// The message of a request and its caller, if the gate admitted the request for the RPC whose handler asks.
///
/// What counts is the method that the router chose, not how the path was spelled (THREATS.md class 14).
pub(super) fn admitted<M>(request: Request<M>, rpc: Rpc) -> Result<(Caller, M), Status> {
    let (_, mut extensions, message) = request.into_parts();
    match extensions.remove::<Admitted>() {
        Some(Admitted { rpc: admitted, caller: Some(caller) }) if admitted == rpc => {
            Ok((caller, message))
        }
        _ => Err(status::not_admitted()),
    }
}

/// The same for an RPC that ends something, with what the gate left for that.
pub(super) fn admitted_to_end<M>(
    mut request: Request<M>,
    rpc: Rpc,
) -> Result<(Caller, M, Patience), Status> {
    let patience = request.extensions_mut().remove::<Patience>();
    let patience = patience.ok_or_else(status::not_admitted)?;
    let (caller, message) = admitted(request, rpc)?;
    Ok((caller, message, patience))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::testing::world::{OPERATOR, World};

    fn contract() -> BTreeSet<String> {
        let set = FileDescriptorSet::decode(crate::proto::DESCRIPTORS).unwrap();
        let mut methods = BTreeSet::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    methods.insert(format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
        methods
    }

    #[test]
    fn class_02_every_rpc_of_the_contract_has_a_row_in_the_access_table_and_no_other_has() {
        let rows: BTreeSet<_> =
            ALL.iter().map(|rpc| method(*rpc)).map(|(s, m)| format!("/{s}/{m}")).collect();
        assert_eq!(rows.len(), ALL.len(), "two rows for one method");
        assert_eq!(rows, contract());
        for rpc in ALL {
            let (service, name) = method(rpc);
            assert_eq!(resolve(&format!("/{service}/{name}")), Some(rpc));
            assert_eq!(name, format!("{rpc:?}"));
            assert!(!relations(rpc).is_empty());
        }
    }

    #[test]
    fn class_19_only_public_keys_are_for_everyone() {
        let public: Vec<_> = ALL.into_iter().filter(|rpc| is_public(*rpc)).collect();
        assert_eq!(public, [Rpc::GetTrustBundle]);
    }

    #[test]
    fn class_14_path_in_another_spelling_is_no_rpc() {
        for path in [
            "leasehold.v1.OperatorService/Quarantine",
            "//leasehold.v1.OperatorService/Quarantine",
            "/leasehold.v1.OperatorService//Quarantine",
            "/leasehold.v1.OperatorService/Quarantine/",
            "/leasehold.v1.OperatorService/quarantine",
            "/Leasehold.v1.OperatorService/Quarantine",
            "/leasehold.v1.OperatorService/Quarantin%65",
            "/leasehold.v1.OperatorService/./Quarantine",
            "/x/../leasehold.v1.OperatorService/Quarantine",
            "/leasehold.v1.TaskService/Quarantine",
            "/leasehold.v1.OperatorService",
            "/",
            "",
        ] {
            assert_eq!(resolve(path), None, "{path}");
        }
    }

    #[tokio::test]
    async fn class_14_request_that_the_gate_did_not_admit_for_this_very_rpc_reaches_no_handler() {
        let caller = Some(World::on_model().await.caller(OPERATOR));
        let request = |left: Option<Admitted>| {
            let mut request = Request::new(());
            left.map(|left| request.extensions_mut().insert(left));
            admitted(request, Rpc::Quarantine).is_ok()
        };
        assert!(request(Some(Admitted { rpc: Rpc::Quarantine, caller: caller.clone() })));
        assert!(!request(Some(Admitted { rpc: Rpc::GetStatus, caller })));
        assert!(!request(Some(Admitted { rpc: Rpc::Quarantine, caller: None })));
        assert!(!request(None));
    }
}
