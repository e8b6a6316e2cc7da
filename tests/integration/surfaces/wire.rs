//! What comes over the wire malformed, odd, too large, too late, or with a certificate that has expired meanwhile.

use std::time::Duration;

use axum::body::Body;
use futures_util::stream;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use leasehold::domain::time::Span;
use leasehold::proto::v1;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::http::{Method, Request, Response, StatusCode};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

use super::site::{
    OPERATOR, ORCHESTRATOR, SVID_LIFE, Site, VERIFIER, begin_request, reason, request_id,
    token_request,
};

const QUARANTINE: &str = "/leasehold.v1.OperatorService/Quarantine";
/// One message of no bytes, framed.
const EMPTY: [u8; 5] = [0; 5];

fn field(status: &Status) -> String {
    assert_eq!(
        (status.code(), reason(status).as_str()),
        (Code::InvalidArgument, "REQUEST_INVALID")
    );
    status.get_details_bad_request().unwrap().field_violations[0].field.clone()
}

#[tokio::test]
async fn class_01_number_of_no_state_and_choice_of_nothing_are_refused_by_their_names() {
    let site = Site::start().await;
    let task = site.begin().await;
    let request = v1::ListTasksRequest { state: 99, ..Default::default() };
    let refused = site.tasks(ORCHESTRATOR).list_tasks(request).await.unwrap_err();
    assert_eq!(field(&refused), "state");
    let request = v1::IssueCredentialRequest { credential: None, ..token_request(&task) };
    let mut agent = site.credentials(super::site::AGENT);
    assert_eq!(field(&agent.issue_credential(request).await.unwrap_err()), "credential");
    let request = v1::IntrospectCredentialRequest { credential: None };
    let refused = site.verification(VERIFIER).introspect_credential(request).await.unwrap_err();
    assert_eq!(field(&refused), "credential");
}

/// A request of a later contract: its choice is one that this one does not have.
#[derive(Clone, PartialEq, prost::Message)]
struct Later {
    #[prost(string, tag = "1")]
    request_id: String,
    #[prost(string, tag = "2")]
    task_id: String,
    #[prost(string, tag = "4")]
    audience: String,
    #[prost(message, optional, tag = "7")]
    access_token: Option<LaterToken>,
    #[prost(bytes = "vec", tag = "99")]
    another_credential: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LaterToken {
    #[prost(bytes = "vec", tag = "99")]
    another_proof: Vec<u8>,
}

#[tokio::test]
async fn class_01_choice_of_a_later_contract_is_no_choice_and_never_a_weaker_one() {
    let site = Site::start().await;
    let task = site.begin_with(|request| request.tier = "bearer".into()).await;
    let later = |access_token| Later {
        request_id: request_id(),
        task_id: task.task_id.clone(),
        audience: super::site::AUDIENCE.into(),
        access_token,
        another_credential: vec![1],
    };
    let issue = "/leasehold.v1.CredentialService/IssueCredential";
    let agent = site.channel(Some(super::site::AGENT));
    let issues = async |request| -> Result<v1::IssueCredentialResponse, _> {
        call(agent.clone(), issue, request).await
    };
    assert_eq!(field(&issues(later(None)).await.unwrap_err()), "credential");
    // A proof that is not known is none: then it is the key of the caller's certificate, and nothing less.
    let token = LaterToken { another_proof: vec![1] };
    let issued = issues(later(Some(token))).await.unwrap();
    assert!(!issued.lease.unwrap().key_thumbprint.is_empty());
    let request = Later { another_credential: vec![1], ..Default::default() };
    let introspect = "/leasehold.v1.VerificationService/IntrospectCredential";
    let verifier = site.channel(Some(VERIFIER));
    let answer: Result<v1::IntrospectCredentialResponse, _> =
        call(verifier, introspect, request).await;
    assert_eq!(field(&answer.unwrap_err()), "credential");
}

async fn call<M: prost::Message + Default + 'static>(
    channel: Channel,
    path: &'static str,
    request: Later,
) -> Result<M, Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let (request, path) = (tonic::Request::new(request), PathAndQuery::from_static(path));
    let codec = ProstCodec::<Later, M>::default();
    grpc.unary(request, path, codec).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn class_04_ttl_of_nothing_negative_or_endless_issues_nothing() {
    let site = Site::start().await;
    let task = site.begin().await;
    let mut agent = site.credentials(super::site::AGENT);
    for (seconds, nanos) in [(0, 0), (-1, 0), (i64::MAX, 0), (i64::MAX, i32::MAX), (60, -1)] {
        let ttl = Some(prost_types::Duration { seconds, nanos });
        let request = v1::IssueCredentialRequest { ttl, ..token_request(&task) };
        assert_eq!(field(&agent.issue_credential(request).await.unwrap_err()), "ttl");
    }
    let ttl = Some(prost_types::Duration { seconds: 9_007_199_254, nanos: 0 });
    let request = v1::IssueCredentialRequest { ttl, ..token_request(&task) };
    let issued = agent.issue_credential(request).await.unwrap().into_inner();
    assert_eq!(issued.ttl_clamp(), v1::TtlClamp::Tier, "the longest that the wire can say");
}

#[tokio::test]
async fn request_id_is_a_uuid_and_stands_for_one_request() {
    let site = Site::start().await;
    let mut client = site.tasks(ORCHESTRATOR);
    let bad = v1::BeginTaskRequest { request_id: "1".into(), ..begin_request() };
    assert_eq!(field(&client.begin_task(bad).await.unwrap_err()), "request_id");
    let labels = (0..16).map(|n| (format!("label-{n}"), "x".to_owned())).collect();
    let request = v1::BeginTaskRequest { labels, ..begin_request() };
    let first = client.begin_task(request.clone()).await.unwrap().into_inner();
    // A hash map would give the labels, and so the request, another order each time.
    for _ in 0..8 {
        let again = client.begin_task(request.clone()).await.unwrap().into_inner();
        assert_eq!(again.task.unwrap().task_id, first.task.clone().unwrap().task_id);
    }
    let other = v1::BeginTaskRequest { purpose: "another".into(), ..request };
    let refused = client.begin_task(other).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::AlreadyExists, "REQUEST_ID_REUSED")
    );
}

#[tokio::test]
async fn class_18_request_id_in_capitals_is_the_same_request_id() {
    let site = Site::start().await;
    let mut client = site.tasks(ORCHESTRATOR);
    let id = "0a1b2c3d-0000-4000-8000-00000000000f";
    let begin = |request_id: String| v1::BeginTaskRequest { request_id, ..begin_request() };
    client.begin_task(begin(id.to_owned())).await.unwrap();
    let refused = client.begin_task(begin(id.to_uppercase())).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::AlreadyExists, "REQUEST_ID_REUSED")
    );
}

#[tokio::test]
async fn class_09_certificate_that_expires_on_an_open_connection_is_refused_at_the_next_call() {
    let site = Site::start().await;
    let mut client = site.tasks(ORCHESTRATOR);
    client.list_tasks(v1::ListTasksRequest::default()).await.unwrap();
    site.clock.forward(SVID_LIFE);
    client.list_tasks(v1::ListTasksRequest::default()).await.unwrap();
    site.clock.forward(Span::from_seconds(1));
    let refused = client.list_tasks(v1::ListTasksRequest::default()).await.unwrap_err();
    // Another connection would have failed at its handshake, which is no answer of the broker.
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "IDENTITY_UNVERIFIED")
    );
}

/// A request without help: any path, method and header; its HTTP status and its gRPC status.
async fn send(site: &Site, request: Request<Body>) -> (StatusCode, Option<Code>) {
    let stream = site.raw(site.running.grpc, Some(OPERATOR), "h2").await;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let answer = tokio::time::timeout(Duration::from_secs(30), sender.send_request(request));
    let answer: Response<_> = answer.await.unwrap().unwrap();
    let status = answer.status();
    let code = Status::from_header_map(answer.headers()).map(|status| status.code());
    connection.abort();
    (status, code)
}

fn post(path: &str) -> Request<Body> {
    let uri = format!("https://localhost{path}");
    let request = Request::builder().method(Method::POST).uri(uri);
    request.header("content-type", "application/grpc").body(Body::from(EMPTY.to_vec())).unwrap()
}

#[tokio::test]
async fn class_14_only_the_one_spelling_of_a_path_reaches_a_handler() {
    let site = Site::start().await;
    let reached = send(&site, post(QUARANTINE)).await;
    assert_eq!(reached, (StatusCode::OK, Some(Code::InvalidArgument)), "the handler is there");
    for path in [
        "//leasehold.v1.OperatorService/Quarantine",
        "/leasehold.v1.OperatorService//Quarantine",
        "/leasehold.v1.OperatorService/Quarantine/",
        "/leasehold.v1.OperatorService/quarantine",
        "/leasehold.v1.operatorservice/Quarantine",
        "/leasehold.v1.OperatorService/Quarantin%65",
        "/leasehold.v1.OperatorService/./Quarantine",
        "/leasehold.v1.TaskService/../leasehold.v1.OperatorService/Quarantine",
        "/leasehold.v1.TaskService/Quarantine",
        "/leasehold.v2.OperatorService/Quarantine",
        "/OperatorService/Quarantine",
        "/",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        let (status, code) = send(&site, post(path)).await;
        assert_eq!((status, code), (StatusCode::OK, Some(Code::Unimplemented)), "{path}");
    }
    // A query is no part of the path.
    let with_query =
        send(&site, post(&format!("{QUARANTINE}?x=/leasehold.v1.TaskService/GetTask"))).await;
    assert_eq!(with_query.1, Some(Code::InvalidArgument));
}

#[tokio::test]
async fn class_14_what_is_not_grpc_reaches_no_handler() {
    let site = Site::start().await;
    for kind in ["application/grpc-web", "application/grpc-web+proto", "application/json", ""] {
        let mut request = post(QUARANTINE);
        request.headers_mut().insert("content-type", kind.parse().unwrap());
        let answer = send(&site, request).await;
        assert_eq!(answer, (StatusCode::UNSUPPORTED_MEDIA_TYPE, None), "{kind}");
    }
    let mut request = post(QUARANTINE);
    *request.method_mut() = Method::GET;
    assert_eq!(send(&site, request).await, (StatusCode::UNSUPPORTED_MEDIA_TYPE, None));
}

#[tokio::test]
async fn class_15_message_that_is_too_large_or_no_message_is_refused_in_our_words() {
    let site = Site::start().await;
    let request = v1::BeginTaskRequest { purpose: "x".repeat(70_000), ..begin_request() };
    let refused = site.tasks(ORCHESTRATOR).begin_task(request).await.unwrap_err();
    assert_eq!(field(&refused), "request");
    let nonsense = [&[0, 0, 0, 0, 3][..], &[0xff, 0xff, 0xff]].concat();
    for frame in [nonsense, vec![0, 0xff, 0xff, 0xff, 0xff], vec![1, 0, 0, 0, 0]] {
        let mut request = post(QUARANTINE);
        *request.body_mut() = Body::from(frame);
        assert_eq!(send(&site, request).await, (StatusCode::OK, Some(Code::InvalidArgument)));
    }
}

#[tokio::test]
async fn class_15_body_that_never_comes_ends_with_the_deadline() {
    let site = Site::start().await;
    let never = || Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let mut request = post(QUARANTINE);
    *request.body_mut() = never();
    request.headers_mut().insert("grpc-timeout", "20m".parse().unwrap());
    assert_eq!(send(&site, request).await, (StatusCode::OK, Some(Code::DeadlineExceeded)));
    let mut request = post(QUARANTINE);
    *request.body_mut() = never();
    request.headers_mut().insert("grpc-timeout", "soon".parse().unwrap());
    assert_eq!(send(&site, request).await, (StatusCode::OK, Some(Code::InvalidArgument)));
}

#[tokio::test]
async fn class_15_caller_that_has_spent_its_rate_can_still_end_its_task() {
    let rate = "requests_per_second_per_principal =";
    let site = Site::start_with(&format!("{rate} 100000"), &format!("{rate} 1")).await;
    let task = site.begin().await;
    let mut client = site.tasks(ORCHESTRATOR);
    let refused = loop {
        let request = v1::GetTaskRequest { task_id: task.task_id.clone() };
        if let Err(refused) = client.get_task(request).await {
            break refused;
        }
    };
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "RATE_LIMITED")
    );
    assert!(refused.get_details_retry_info().is_some());
    let request_id = request_id();
    let request = v1::CompleteTaskRequest {
        request_id,
        task_id: task.task_id,
        reason: String::new(),
        ..Default::default()
    };
    client.complete_task(request).await.unwrap();
}

#[tokio::test]
async fn stale_epoch_says_which_is_current() {
    let site = Site::start().await;
    let task = site.begin().await;
    let mut client = site.tasks(ORCHESTRATOR);
    let advance = || v1::AdvanceTaskRequest {
        request_id: request_id(),
        task_id: task.task_id.clone(),
        expected_epoch: task.epoch,
        ..Default::default()
    };
    let advanced = client.advance_task(advance()).await.unwrap().into_inner().task.unwrap();
    let refused = client.advance_task(advance()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "EPOCH_STALE")
    );
    let failure = refused.get_details_precondition_failure().unwrap();
    assert_eq!(failure.violations[0].subject, format!("epoch:{}", advanced.epoch));
}

#[tokio::test]
async fn class_15_page_of_more_than_a_thousand_is_refused() {
    let site = Site::start().await;
    let task_id = site.begin().await.task_id;
    for page_size in [-1, 1_001, i32::MAX] {
        let request = v1::ListTasksRequest { page_size, ..Default::default() };
        let refused = site.tasks(ORCHESTRATOR).list_tasks(request).await.unwrap_err();
        assert_eq!(field(&refused), "page_size");
        let request =
            v1::ListLeasesRequest { page_size, task_id: task_id.clone(), ..Default::default() };
        let refused = site.credentials(OPERATOR).list_leases(request).await.unwrap_err();
        assert_eq!(field(&refused), "page_size");
    }
}
