//! An OIDC issuer on this machine, over plain HTTP, whose documents the test writes and whose fetches it counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use signature::Signer as _;

use crate::domain::time::Stamp;
use crate::jose::{KeySet, SigningKey, base64url};

const DISCOVERY: &str = "/.well-known/openid-configuration";
const JWKS: &str = "/jwks";

/// A running issuer. It ends with the runtime of its test.
#[derive(Debug)]
pub struct TestIssuer {
    /// Its `iss`, `http://127.0.0.1:<port>`.
    pub url: String,
    /// The key that it publishes at start.
    pub key: SigningKey,
    server: Arc<Server>,
}

#[derive(Debug, Default)]
struct Server {
    documents: Mutex<Documents>,
    /// Held by whoever makes it answer nobody.
    answering: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Documents {
    answers: BTreeMap<String, Answer>,
    fetches: BTreeMap<String, usize>,
    requests: BTreeMap<String, Request>,
}

/// What was asked for at one path.
#[derive(Clone, Debug)]
pub struct Request {
    /// HTTP method.
    pub method: Method,
    /// The `authorization` header.
    pub authorization: Option<String>,
    /// The body as it came.
    pub body: String,
}

/// What the server says at one path.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Header names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body as it is.
    pub body: String,
}

impl Answer {
    /// Status 200 and a body.
    pub fn of(body: impl ToString) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.to_string() }
    }

    /// The same with a header.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Nothing but a status.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }
}

impl TestIssuer {
    /// An issuer with one key and sound documents.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Arc::new(Server::default());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&server));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let issuer = Self { url, key: SigningKey::generate().unwrap().0, server };
        issuer.set_discovery(Answer::of(issuer.discovery()));
        issuer.publish(&[&issuer.key]);
        issuer
    }

    /// The sound discovery document.
    pub fn discovery(&self) -> Value {
        json!({"issuer": self.url, "jwks_uri": format!("{}{JWKS}", self.url)})
    }

    /// Answers fetches of the discovery document.
    pub fn set_discovery(&self, answer: Answer) {
        self.set(DISCOVERY, answer);
    }

    /// Answers fetches of the keys.
    pub fn set_jwks(&self, answer: Answer) {
        self.set(JWKS, answer);
    }

    /// Answers fetches of a path.
    pub fn set(&self, path: &str, answer: Answer) {
        self.server.documents.lock().answers.insert(path.to_owned(), answer);
    }

    /// Publishes these keys, to be kept for five minutes.
    pub fn publish(&self, keys: &[&SigningKey]) {
        let set = KeySet::of(keys.iter().map(|key| key.verifying_key().clone())).unwrap();
        self.set_jwks(Answer::of(set.to_document()).with("cache-control", "max-age=300"));
    }

    /// Answers nobody until what it gives is dropped.
    pub async fn hold(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.server.answering).lock_owned().await
    }

    /// How often its keys were fetched.
    pub fn fetches(&self) -> usize {
        self.fetches_of(JWKS)
    }

    /// How often a path was fetched.
    pub fn fetches_of(&self, path: &str) -> usize {
        self.server.documents.lock().fetches.get(path).copied().unwrap_or_default()
    }

    /// The last request for a path.
    pub fn last_request(&self, path: &str) -> Option<Request> {
        self.server.documents.lock().requests.get(path).cloned()
    }

    /// Claims of a good identity token that lives for five minutes.
    pub fn claims(&self, subject: &str, audience: &str, now: Stamp) -> Value {
        json!({
            "iss": self.url, "sub": subject, "aud": audience, "jti": "1",
            "iat": now.seconds(), "nbf": now.seconds(), "exp": now.seconds() + 300,
        })
    }

    /// Signs an identity token with its key.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as("JWT", claims)
    }

    /// Signs whatever claims as another kind of token.
    pub fn sign_as(&self, typ: &str, claims: &Value) -> String {
        self.key.sign(typ, claims).unwrap().expose_text().to_owned()
    }

    /// Signs a header and a payload that need not be JSON.
    pub fn sign_text(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", base64url::encode(header), base64url::encode(payload));
        let signature = self.key.try_sign(message.as_bytes()).unwrap();
        format!("{message}.{}", base64url::encode(signature))
    }
}

async fn answer(
    State(server): State<Arc<Server>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    drop(server.answering.lock().await);
    let mut documents = server.documents.lock();
    *documents.fetches.entry(uri.path().to_owned()).or_default() += 1;
    let authorization = headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    let request = Request { method, authorization, body };
    documents.requests.insert(uri.path().to_owned(), request);
    let Some(answer) = documents.answers.get(uri.path()).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(answer.body.into()).unwrap()
}
