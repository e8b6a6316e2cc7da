//! Envoy's question: what it is to pass on, and what to answer instead.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use axum::body::Body;
use futures_util::stream::{self, StreamExt as _};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use leasehold::domain::time::Span;
use leasehold::jose::SigningKey;
use leasehold::jose::dpop::HttpsUri;
use leasehold::proto::ext_authz::attribute_context::{HttpRequest, Peer, Request as Inner};
use leasehold::proto::ext_authz::authorization_client::AuthorizationClient;
use leasehold::proto::ext_authz::check_response::HttpResponse;
use leasehold::proto::ext_authz::header_value_option::HeaderAppendAction;
use leasehold::proto::ext_authz::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue,
    HeaderValueOption, HttpStatus, OkHttpResponse, Status,
};
use leasehold::proto::v1;
use leasehold::proto::v1::credential_service_client::CredentialServiceClient;
use leasehold::sidecar::Options;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::super::dpop;
use super::super::site::{AGENT, token_request};
use super::calls::proof;
use super::{Beside, PATIENCE, Socket};

impl Socket {
    fn envoy(&self) -> AuthorizationClient<Channel> {
        let path = self.0.clone();
        let connect = service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://sidecar");
        AuthorizationClient::new(endpoint.connect_with_connector_lazy(connect))
    }

    async fn check(&self, attributes: AttributeContext) -> CheckResponse {
        let request = CheckRequest { attributes: Some(attributes) };
        self.envoy().check(request).await.expect("never an error of gRPC").into_inner()
    }

    async fn through(&self, attributes: AttributeContext) -> OkHttpResponse {
        let answer = self.check(attributes).await;
        assert_eq!(answer.status.as_ref().unwrap().code, 0, "{answer:?}");
        match answer.http_response {
            Some(HttpResponse::OkResponse(ok)) => ok,
            other => panic!("{other:?}"),
        }
    }

    /// Status, body and headers of what the client is told.
    async fn denied(&self, attributes: AttributeContext) -> (i32, Value, BTreeMap<String, String>) {
        let answer = self.check(attributes).await;
        assert_ne!(answer.status.unwrap().code, 0);
        let Some(HttpResponse::DeniedResponse(denied)) = answer.http_response else {
            panic!("no answer for the client")
        };
        let DeniedHttpResponse { status, headers, body } = denied;
        let headers = headers.into_iter().map(|option| option.header.unwrap());
        let headers = headers.map(|header| (header.key, header.value)).collect();
        (status.unwrap().code, serde_json::from_str(&body).unwrap(), headers)
    }
}

/// As Envoy writes it.
fn percent_encoded(pem: &str) -> String {
    let codes =
        [("%", "%25"), ("\n", "%0A"), (" ", "%20"), ("+", "%2B"), ("/", "%2F"), ("=", "%3D")];
    codes.iter().fold(pem.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// What Envoy asks about a request with a token, for a route that takes `read`.
fn attributes(authorization: &str, leaf_pem: &str) -> AttributeContext {
    let http = HttpRequest {
        method: "POST".to_owned(),
        path: "/entries?page=2".to_owned(),
        headers: BTreeMap::from([("authorization".to_owned(), authorization.to_owned())]),
    };
    AttributeContext {
        source: Some(Peer { certificate: percent_encoded(leaf_pem) }),
        request: Some(Inner { http: Some(http) }),
        context_extensions: said("leasehold.actions", "read"),
    }
}

fn said(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

fn with_header(mut attributes: AttributeContext, name: &str, value: &str) -> AttributeContext {
    let http = attributes.request.as_mut().unwrap().http.as_mut().unwrap();
    http.headers.insert(name.to_owned(), value.to_owned());
    attributes
}

/// A token, and the certificate that it is bound to, in PEM.
async fn bound_to_shown(beside: &Beside) -> (v1::Task, String, String) {
    let site = &beside.pair.site;
    let (task, own) = (site.begin().await, site.svid(AGENT));
    let channel = site.channel_with(Some(&own));
    let mut credentials = CredentialServiceClient::new(channel);
    let request = token_request(&task);
    let issued = credentials.issue_credential(request).await.unwrap().into_inner();
    (task, issued.credential.unwrap().access_token, own.chain_pem())
}

#[tokio::test]
async fn the_server_behind_is_told_by_us_alone_who_asks_and_does_not_see_the_token() {
    let beside = Beside::start().await;
    let (task, token, pem) = bound_to_shown(&beside).await;
    let mut asked = attributes(&format!("Bearer {token}"), &pem);
    for forged in
        ["x-leasehold-task", "x-leasehold-step", "x_leasehold_subject", "x-leasehold_role"]
    {
        asked = with_header(asked, forged, "forged");
    }
    asked = with_header(asked, "x-request-id", "1");
    let ok = beside.through(asked).await;
    let mut headers = BTreeMap::new();
    for option in &ok.headers {
        assert_eq!(option.append_action(), HeaderAppendAction::OverwriteIfExistsOrAdd);
        let header = option.header.clone().unwrap();
        headers.insert(header.key, header.value);
    }
    let names: Vec<_> =
        headers.keys().map(|name| name.strip_prefix("x-leasehold-").unwrap()).collect();
    let expected = ["actions", "agent", "epoch", "expires-at", "lease", "path", "subject", "task"];
    assert_eq!(names, expected);
    assert_eq!(headers["x-leasehold-task"], task.task_id);
    assert_eq!(headers["x-leasehold-path"], task.task_id);
    assert_eq!(headers["x-leasehold-subject"], AGENT);
    assert_eq!(headers["x-leasehold-actions"], "read write");
    let removed: BTreeSet<_> = ok.headers_to_remove.iter().map(String::as_str).collect();
    let expected =
        ["authorization", "dpop", "x-leasehold-step", "x-leasehold_role", "x_leasehold_subject"];
    assert_eq!(removed, BTreeSet::from(expected));
}

#[tokio::test]
async fn whoever_is_told_to_pass_credentials_on_does() {
    let options = Options { passes_credentials: true, ..Options::default() };
    let beside = Beside::start_with(|_| {}, options).await;
    let (_, token, pem) = bound_to_shown(&beside).await;
    let ok = beside.through(attributes(&format!("Bearer {token}"), &pem)).await;
    assert_eq!(ok.headers_to_remove, [""; 0]);
}

#[tokio::test]
async fn class_20_envoy_is_given_the_whole_answer_for_whoever_is_not_let_in() {
    let beside = Beside::start().await;
    let (task, token, pem) = bound_to_shown(&beside).await;
    let good = attributes(&format!("Bearer {token}"), &pem);
    beside.through(good.clone()).await;
    let mut for_writing = good.clone();
    for_writing.context_extensions = said("leasehold.actions", "read delete");
    let other = beside.pair.site.svid(AGENT).chain_pem();
    let nobody = AttributeContext { source: None, ..good.clone() };
    for (asked, status, reason, starts) in [
        (attributes("", &pem), 401, "IDENTITY_UNVERIFIED", "Bearer"),
        (
            attributes(&format!("Bearer {token},Bearer {token}"), &pem),
            401,
            "IDENTITY_UNVERIFIED",
            "Bearer error=\"invalid_token\"",
        ),
        (
            attributes(&format!("Bearer {token}"), &other),
            401,
            "PROOF_INVALID",
            "Bearer error=\"invalid_token\"",
        ),
        (nobody, 401, "PROOF_INVALID", "Bearer error=\"invalid_token\""),
        (for_writing, 403, "POLICY_DENIED", "Bearer error=\"insufficient_scope\""),
    ] {
        let (answered, body, headers) = beside.denied(asked).await;
        assert_eq!((answered, body["reason"].as_str()), (status, Some(reason)), "{body}");
        assert!(headers["www-authenticate"].starts_with(starts), "{headers:?}");
        assert_eq!(headers["content-type"], "application/json");
    }
    let fenced = beside.pair.complete(&task, v1::Enforcement::Fenced).await;
    assert_eq!(fenced.enforcement(), v1::Enforcement::Fenced, "{fenced:?}");
    let (status, body, _) = beside.denied(good.clone()).await;
    assert_eq!((status, &body["reason"]), (401, &json!("EPOCH_STALE")));
    let (_, token, pem) = bound_to_shown(&beside).await;
    beside.pair.site.clock.forward(Span::from_seconds(5));
    let (status, body, headers) = beside.denied(attributes(&format!("Bearer {token}"), &pem)).await;
    assert_eq!((status, &body["retriable"]), (503, &json!(true)));
    assert!(!headers.contains_key("www-authenticate"));
}

#[tokio::test]
async fn class_20_a_route_that_does_not_say_what_it_takes_lets_nobody_in() {
    let beside = Beside::start().await;
    let (_, token, pem) = bound_to_shown(&beside).await;
    let good = attributes(&format!("Bearer {token}"), &pem);
    let both: BTreeMap<_, _> = said("leasehold.actions", "read")
        .into_iter()
        .chain(said("leasehold.audience", "x"))
        .collect();
    for wrong in [BTreeMap::new(), said("leasehold.action", "read"), said("actions", "read"), both]
    {
        let asked = AttributeContext { context_extensions: wrong, ..good.clone() };
        assert_eq!(beside.denied(asked).await.0, 500);
    }
    for wrong in
        ["PEM", "%", "%4", "%zz", "-----BEGIN CERTIFICATE-----%0A%0A-----END CERTIFICATE-----"]
    {
        let source = Some(Peer { certificate: wrong.to_owned() });
        let asked = AttributeContext { source, ..good.clone() };
        assert!([401, 500].contains(&beside.denied(asked).await.0), "{wrong}");
    }
    let none = AttributeContext { context_extensions: said("leasehold.actions", ""), ..good };
    beside.through(none).await;
    assert_eq!(beside.denied(AttributeContext::default()).await.0, 500);
}

#[tokio::test]
async fn class_23_a_proof_behind_envoy_is_for_method_and_path_that_envoy_saw() {
    let target = "https://ledger.example";
    let targets = vec![HttpsUri::parse(target).unwrap()];
    let beside = Beside::start_with(|s| s.rules.targets = targets, Options::default()).await;
    let (site, key) = (&beside.pair.site, SigningKey::generate().unwrap().0);
    let task = site.begin().await;
    let issue = "/leasehold.v1.CredentialService/IssueCredential";
    let shown = dpop::proof(site, &key, &dpop::place(site), issue, None);
    let issued = dpop::issue(site, dpop::bound(&task), &[shown]).await.unwrap();
    let token = issued.credential.unwrap().access_token;
    let ask = |proof: &str| with_header(attributes(&format!("DPoP {token}"), ""), "dpop", proof);
    let shown = (token.as_str(), &key);
    let entries = format!("{target}/entries");
    let (_, body, headers) =
        beside.denied(ask(&proof(&beside, shown, ("POST", &entries), None))).await;
    assert_eq!(body["error"], "use_dpop_nonce", "the sidecar began a moment ago");
    let nonce = Some(headers["dpop-nonce"].as_str());
    let good = proof(&beside, shown, ("POST", &entries), nonce);
    beside.through(ask(&good)).await;
    let other = proof(&beside, shown, ("POST", &format!("{target}/other")), nonce);
    for wrong in [good, other] {
        let (status, body, headers) = beside.denied(ask(&wrong)).await;
        assert_eq!((status, &body["error"]), (401, &json!("invalid_dpop_proof")));
        assert!(headers["www-authenticate"].starts_with("DPoP error="), "{headers:?}");
    }
    let (_, _, headers) = beside.denied(attributes("", "")).await;
    assert!(headers["www-authenticate"].starts_with("Bearer, DPoP algs="), "{headers:?}");
}

/// A field of a message, length-delimited (protobuf, Encoding).
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len().try_into().unwrap(), &mut bytes);
    [&bytes, content].concat()
}

fn entry(key: &str, value: &str) -> Vec<u8> {
    [field(1, key.as_bytes()), field(2, value.as_bytes())].concat()
}

#[test]
fn class_01_the_numbers_are_those_of_envoy_and_what_is_not_known_is_skipped() {
    let http = [
        field(1, b"id"),
        field(2, b"GET"),
        field(3, &entry("authorization", "Bearer x")),
        field(4, b"/entries"),
        field(5, b"host"),
        field(10, b"HTTP/2"),
    ];
    let source = [field(1, &field(1, &field(2, b"127.0.0.1"))), field(4, b"me"), field(5, b"PEM")];
    let attributes = [
        field(1, &source.concat()),
        field(2, &field(4, b"you")),
        field(4, &field(2, &http.concat())),
        field(10, &entry("leasehold.actions", "read")),
        field(12, &field(1, b"sni")),
    ];
    let read = CheckRequest::decode(&field(1, &attributes.concat())[..]).unwrap();
    let headers = said("authorization", "Bearer x");
    let http = HttpRequest { method: "GET".to_owned(), path: "/entries".to_owned(), headers };
    let expected = AttributeContext {
        source: Some(Peer { certificate: "PEM".to_owned() }),
        request: Some(Inner { http: Some(http) }),
        context_extensions: said("leasehold.actions", "read"),
    };
    assert!(read.attributes == Some(expected));

    let header = HeaderValue { key: "a".to_owned(), value: "b".to_owned() };
    let append_action = HeaderAppendAction::OverwriteIfExistsOrAdd.into();
    let headers = vec![HeaderValueOption { header: Some(header), append_action }];
    let header = field(2, &[field(1, &entry("a", "b")), vec![3 << 3, 2]].concat());
    let ok = OkHttpResponse { headers: headers.clone(), headers_to_remove: vec!["c".to_owned()] };
    let written = CheckResponse { status: None, http_response: Some(HttpResponse::OkResponse(ok)) };
    let expected = field(3, &[header.clone(), field(5, b"c")].concat());
    assert_eq!(written.encode_to_vec(), expected);
    let status = Some(HttpStatus { code: 100 });
    let denied = DeniedHttpResponse { status, headers, body: "d".to_owned() };
    let written = CheckResponse {
        status: Some(Status { code: 16, message: "e".to_owned() }),
        http_response: Some(HttpResponse::DeniedResponse(denied)),
    };
    let denied = [field(1, &[8, 100]), header, field(3, b"d")].concat();
    let status = field(1, &[vec![8, 16], field(2, b"e")].concat());
    assert_eq!(written.encode_to_vec(), [status, field(2, &denied)].concat());
}

/// What is answered to a body of gRPC, as it comes.
async fn asked_with(beside: &Beside, body: Body) -> CheckResponse {
    let stream = UnixStream::connect(&beside.socket.0).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("http://sidecar/envoy.service.auth.v3.Authorization/Check")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let sent = sender.send_request(request.body(body).unwrap());
    let response = tokio::time::timeout(PATIENCE, sent).await.expect("nothing ends it").unwrap();
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("grpc-status"), "{:?}", response.headers());
    let answer = axum::body::to_bytes(Body::new(response.into_body()), 65_536).await.unwrap();
    CheckResponse::decode(&answer[5..]).unwrap()
}

fn framed(message: &[u8]) -> Body {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    Body::from([&[0], &length[..], message].concat())
}

#[track_caller]
fn must_be_no(answer: CheckResponse, status: i32, what: &str) {
    assert_ne!(answer.status.unwrap().code, 0);
    let Some(HttpResponse::DeniedResponse(denied)) = answer.http_response else {
        panic!("no answer for the client")
    };
    assert_eq!(denied.status.unwrap().code, status, "{}", denied.body);
    assert!(denied.body.contains(what), "{}", denied.body);
}

#[tokio::test]
async fn class_01_what_cannot_be_read_is_a_no_and_never_an_error() {
    let beside = Beside::start().await;
    let (_, token, pem) = bound_to_shown(&beside).await;
    let asked = attributes(&format!("Bearer {token}"), &pem);
    let good = CheckRequest { attributes: Some(asked.clone()) }.encode_to_vec();
    let answer = asked_with(&beside, framed(&good)).await;
    assert!(matches!(answer.http_response, Some(HttpResponse::OkResponse(_))), "{answer:?}");
    let mut latin = good.clone();
    let path = latin.windows(8).position(|part| part == b"/entries").unwrap();
    latin[path + 1] = 0xe9;
    must_be_no(asked_with(&beside, framed(&latin)).await, 400, "in UTF-8");
    let large = with_header(asked, "cookie", &"c".repeat(256 * 1024));
    let large = CheckRequest { attributes: Some(large) }.encode_to_vec();
    must_be_no(asked_with(&beside, framed(&large)).await, 413, "256 KiB");
    let compressed = [&[1], &[0, 0, 0, 1][..], b"x"].concat();
    let cut = [&[0], &[0, 0, 1, 0][..], &good[..64]].concat();
    for body in [Vec::new(), vec![0; 4], compressed, cut] {
        must_be_no(asked_with(&beside, Body::from(body)).await, 400, "no `CheckRequest`");
    }
    let (_, numbers) = beside.get("/metrics").await;
    let unreadable = "answers_total{surface=\"ext_authz\",outcome=\"unreadable\"}";
    assert!(numbers.contains(unreadable), "whoever looks after it sees it: {numbers}");
}

#[tokio::test]
async fn class_09_a_question_that_does_not_come_to_its_end_is_a_no_in_time() {
    let options = Options { patience: Duration::from_secs(2), ..Options::default() };
    let beside = Beside::start_with(|_| {}, options).await;
    let endless = stream::once(ready(Ok::<_, Infallible>("\0\0\0"))).chain(stream::pending());
    must_be_no(asked_with(&beside, Body::from_stream(endless)).await, 503, "come to its end");
}
