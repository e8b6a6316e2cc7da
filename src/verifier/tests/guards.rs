//! The layer: what it asks of a request, and what it answers.

use std::convert::Infallible;

use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::served::Scene;
use super::*;
use crate::domain::secret::Secret;

/// What a request of this one is answered, by a service that shows what it was given.
async fn answer(guard: &Guard, request: Request<Body>) -> Response<GuardedBody<Body>> {
    let service = service_fn(async |request: Request<Body>| {
        let admission = request.extensions().get::<Arc<Admission>>().unwrap();
        let lease = admission.credential().execution().lease;
        let seen = ["authorization", "dpop"].map(|name| request.headers().contains_key(name));
        Ok::<_, Infallible>(Response::new(Body::from(format!("{lease} {seen:?}"))))
    });
    guard.layer(service).oneshot(request).await.unwrap()
}

fn request(authorization: Option<&str>) -> http::request::Builder {
    let request = Request::get("https://ledger.example/entries?x=1");
    match authorization {
        Some(value) => request.header(AUTHORIZATION, value),
        None => request,
    }
}

fn empty(request: http::request::Builder) -> Request<Body> {
    request.body(Body::empty()).unwrap()
}

async fn text(response: Response<GuardedBody<Body>>) -> String {
    let bytes = axum::body::to_bytes(Body::new(response.into_body()), 4_096).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A peer whose certificate has the thumbprint that tokens are bound to cannot be made; so the tests' tokens are bound to it.
fn peer() -> PeerCertificate {
    PeerCertificate::new(b"certificate")
}

fn bound(scene: &Scene) -> String {
    let mut claims = scene.claims();
    claims.confirmation = Some(Confirmation::Certificate(peer().thumbprint()));
    scene.broker.signer.sign(&claims)
}

#[tokio::test]
async fn a_request_with_a_living_token_gets_through_without_it_and_holds_its_admission() {
    let scene = Scene::start().await;
    let verifier = scene.verifier(scene.settings()).await;
    let guard = Guard::new(verifier.clone(), &["read"]);
    let value = format!("bearer {}", bound(&scene));
    let response = answer(&guard, empty(request(Some(&value)).extension(peer()))).await;
    assert_eq!(response.status(), StatusCode::OK);
    scene.end(60_000);
    let told = scene.applied(60_000).await;
    assert_eq!(told.drained, [position(0, 0), position(1, 0)], "the body is not over");
    assert_eq!(text(response).await, format!("{} [false, false]", lease(9)));
    let mut acknowledged = scene.broker.acknowledged.subscribe();
    acknowledged.wait_for(|a| a.drained.contains(&position(1, 60_000))).await.unwrap();
    let response = answer(&guard, empty(request(Some(&value)).extension(peer()))).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let challenge = response.headers()[WWW_AUTHENTICATE].to_str().unwrap();
    assert!(challenge.starts_with("Bearer error=\"invalid_token\""), "{challenge}");
}

#[tokio::test]
async fn class_23_every_other_request_is_answered_with_the_challenge_that_fits() {
    let scene = Scene::start().await;
    let mut settings = scene.settings();
    settings.rules.targets = vec![HttpsUri::parse("https://ledger.example").unwrap()];
    let verifier = scene.verifier(settings).await;
    let token = bound(&scene);
    let bearer = format!("Bearer {token}");
    let read = Guard::new(verifier.clone(), &["read"]);
    let delete = Guard::new(verifier, &["delete"]);
    let with = |value: &str| empty(request(Some(value)).extension(peer()));
    let twice = empty(request(Some(&bearer)).header(AUTHORIZATION, &bearer).extension(peer()));
    let two_proofs = request(Some(&format!("DPoP {token}"))).header("dpop", "a");
    for (guard, request, status, challenge) in [
        (&read, empty(request(None)), 401, "Bearer"),
        (&read, with("Basic dTpw"), 401, "Bearer"),
        (&read, with("Bearer x"), 401, "Bearer error=\"invalid_token\""),
        (&read, empty(request(Some(&bearer))), 401, "Bearer error=\"invalid_token\""),
        (&read, with(&format!("DPoP {token}")), 401, "DPoP error=\"invalid_token\""),
        (&read, with("Bearer "), 400, "Bearer error=\"invalid_request\""),
        (&read, twice, 400, "Bearer error=\"invalid_request\""),
        (&read, empty(two_proofs.header("dpop", "b")), 400, "DPoP error=\"invalid_request\""),
        (&delete, with(&bearer), 403, "Bearer error=\"insufficient_scope\""),
    ] {
        let response = answer(guard, request).await;
        assert_eq!(response.status(), status, "{challenge}");
        let mut told = response.headers().get_all(WWW_AUTHENTICATE).iter();
        assert!(told.next().unwrap().to_str().unwrap().starts_with(challenge), "{challenge}");
        assert_eq!(told.next().is_some(), challenge == "Bearer", "how to ask, in both ways");
        assert!(response.size_hint().exact().is_some());
        assert!(!text(response).await.contains(&token));
    }
}

#[tokio::test]
async fn class_07_who_cannot_know_says_so_and_to_try_again() {
    let scene = Scene::start().await;
    let identity = Identity { ca_file: "a".into(), cert_file: "b".into(), key_file: "c".into() };
    let nobody = Settings::new(["https://127.0.0.1:1"], identity, AUDIENCE);
    let guard = Guard::new(Verifier::start(nobody).unwrap(), &[]);
    let value = format!("Bearer {}", bound(&scene));
    let response = answer(&guard, empty(request(Some(&value)).extension(peer()))).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    let call = request(Some(&value)).header(CONTENT_TYPE, "application/grpc").extension(peer());
    let response = answer(&guard, empty(call)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let status = tonic::Status::from_header_map(response.headers()).unwrap();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let details = tonic_types::StatusExt::get_error_details(&status);
    let info = details.error_info().unwrap();
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        ("DEPENDENCY_UNAVAILABLE", "leasehold")
    );
}

#[tokio::test]
async fn class_23_a_call_of_grpc_is_answered_in_its_trailers_with_the_nonce_that_a_proof_must_have()
{
    let scene = Scene::start().await;
    let mut settings = scene.settings();
    settings.rules.targets = vec![HttpsUri::parse("https://ledger.example").unwrap()];
    settings.rules.nonces = Some(dpop::NonceKey::derive(&Secret::new(vec![7; 32])).unwrap());
    let guard = Guard::new(scene.verifier(settings).await, &["read"]);
    let bearer = format!("Bearer {}", bound(&scene));
    for (value, peer, code, what) in [
        (None, Some(peer()), tonic::Code::Unauthenticated, "show an access token of the broker"),
        (Some(bearer.as_str()), None, tonic::Code::Unauthenticated, "another client certificate"),
        (Some("Bearer "), Some(peer()), tonic::Code::InvalidArgument, "is not one access token"),
    ] {
        for kind in ["application/grpc", "application/grpc+proto"] {
            let call = request(value).header(CONTENT_TYPE, kind);
            let call = empty(match &peer {
                Some(peer) => call.extension(peer.clone()),
                None => call,
            });
            let response = answer(&guard, call).await;
            // Trailers only: whatever comes otherwise a client takes for a broken server.
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc");
            assert!(response.body().is_end_stream());
            let status = tonic::Status::from_header_map(response.headers()).unwrap();
            assert_eq!(status.code(), code);
            assert!(status.message().contains(what), "{status}");
            assert_eq!(status.metadata().contains_key("dpop-nonce"), value.is_none());
        }
    }
}
