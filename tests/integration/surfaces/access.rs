//! Every RPC as every role, and as nobody: whoever the table does not name is refused before anything is looked at.

use leasehold::proto::DESCRIPTORS;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::site::{AGENT, NOBODY, OPERATOR, ORCHESTRATOR, Site, VERIFIER, begin_request, reason};

const CALLERS: [(&str, &str); 5] = [
    ("orchestrator", ORCHESTRATOR),
    ("agent", AGENT),
    ("verifier", VERIFIER),
    ("operator", OPERATOR),
    ("no role", NOBODY),
];

/// DESIGN.md section 8, written down a second time: roles that get past the door of an RPC.
fn table(method: &str) -> &'static [&'static str] {
    match method {
        "BeginTask" | "AdvanceTask" | "Heartbeat" => &["orchestrator"],
        "SuspendTask" | "ResumeTask" => &["orchestrator", "operator"],
        // An agent may end what it delegated.
        "CompleteTask" | "FailTask" | "DelegateTask" => &["orchestrator", "agent"],
        "CancelTask" | "GetTask" | "ListTasks" | "WatchTask" | "GetLease" | "ListLeases" => {
            &["orchestrator", "agent", "operator"]
        }
        "IssueCredential" | "RenewCredential" | "ReleaseCredential" => &["agent"],
        "IntrospectCredential" => &["verifier", "operator"],
        "WatchRevocations" => &["verifier"],
        "GetTrustBundle" => &["orchestrator", "agent", "verifier", "operator", "no role", "nobody"],
        "RevokeLease" | "RevokeTask" | "Quarantine" | "LiftQuarantine" | "ListTiers"
        | "GetStatus" => &["operator"],
        other => panic!("`{other}` is not in this table: who may call it?"),
    }
}

fn methods() -> Vec<(String, String)> {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let services = set.file.iter().flat_map(|file| {
        let package = file.package().to_owned();
        file.service.iter().map(move |service| (package.clone(), service))
    });
    services
        .flat_map(|(package, service)| {
            let name = format!("{package}.{}", service.name());
            service.method.iter().map(move |m| (name.clone(), m.name().to_owned()))
        })
        .collect()
}

/// Sends an empty message, which no mutation takes.
async fn call(channel: &Channel, service: &str, method: &str) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path: PathAndQuery = format!("/{service}/{method}").parse().unwrap();
    let codec = ProstCodec::<(), ()>::default();
    grpc.unary(Request::new(()), path, codec).await.map(|_| ())
}

#[tokio::test]
async fn class_02_every_rpc_refuses_every_role_that_the_table_does_not_name() {
    let site = Site::start().await;
    let methods = methods();
    assert_eq!(methods.len(), 26);
    for (role, spiffe_id) in CALLERS {
        let channel = site.channel(Some(spiffe_id));
        for (service, method) in &methods {
            let answer = call(&channel, service, method).await;
            let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
            let may = table(method).contains(&role);
            let is_refused = code == Code::PermissionDenied;
            assert_eq!(is_refused, !may, "{method} as {role}: {answer:?}");
            assert_ne!(code, Code::Unauthenticated, "{method} as {role}");
            if let Err(status) = answer.as_ref().map_err(reason) {
                let expected = if may { "REQUEST_INVALID" } else { "ROLE_MISSING" };
                assert_eq!(status, expected, "{method} as {role}");
            }
        }
    }
}

#[tokio::test]
async fn class_02_without_identity_nothing_is_answered_but_the_public_keys() {
    let site = Site::start().await;
    let channel = site.channel(None);
    for (service, method) in methods() {
        let answer = call(&channel, &service, &method).await;
        if table(&method).contains(&"nobody") {
            assert!(answer.is_ok(), "{method}: {answer:?}");
        } else {
            let status = answer.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{method}");
            assert_eq!(reason(&status), "IDENTITY_UNVERIFIED", "{method}");
        }
    }
}

#[tokio::test]
async fn bearer_identity_is_as_good_as_a_certificate_and_both_together_are_refused() {
    let site = Site::start().await;
    let bearer = format!("Bearer {}", site.bearer());
    let begin = begin_request;
    let mut client = site.with_authorization(None, vec![bearer.clone()]);
    let task = client.begin_task(begin()).await.unwrap().into_inner().task.unwrap();
    assert_eq!(task.orchestrator, "jobs");
    for (svid, headers) in [
        (Some(ORCHESTRATOR), vec![bearer.clone()]),
        (None, vec![bearer.clone(), bearer.clone()]),
        (None, vec![bearer.replace("Bearer", "Basic")]),
        (None, vec![format!("{bearer}x")]),
    ] {
        let refused = site.with_authorization(svid, headers).begin_task(begin()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    }
}

#[tokio::test]
async fn class_11_token_of_our_own_is_no_identity() {
    let site = Site::start().await;
    let task = site.begin().await;
    let token = site.issue(&task).await.credential.unwrap().access_token;
    let mut client = site.with_authorization(None, vec![format!("Bearer {token}")]);
    let refused = client.begin_task(begin_request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}
