//! The sidecar over its own socket, following a real broker: whom it lets in, whom not, and what it answers.

mod calls;
mod drains;
mod envoy;
mod program;

use std::future::poll_fn;
use std::ops::Deref;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use leasehold::sidecar::{Door, Options, Sidecar};
use leasehold::telemetry::metrics;
use leasehold::verifier::Settings;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::verifier::{Pair, Token};

/// No fact takes longer to come true.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any test.
const HOUR: Duration = Duration::from_secs(3_600);

/// A sidecar that follows a broker.
struct Beside {
    pair: Pair,
    socket: Socket,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    _folder: TempDir,
}

impl Beside {
    async fn start() -> Self {
        Self::start_with(|_| {}, Options::default()).await
    }

    async fn start_with(change: impl FnOnce(&mut Settings), options: Options) -> Self {
        let pair = Pair::start_with(change).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("verify.sock");
        let door = Door::Unix(UnixListener::bind(&path).unwrap());
        let stop = CancellationToken::new();
        let numbers = metrics::install().unwrap();
        let sidecar = Sidecar::new(pair.verifier.clone(), options, numbers);
        let serving = tokio::spawn(sidecar.serve(vec![door], stop.clone()));
        Self { pair, socket: Socket(path), stop, serving, _folder: folder }
    }
}

impl Deref for Beside {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}

/// The path of a socket that is asked.
struct Socket(PathBuf);

impl Socket {
    async fn send(&self, request: Request<String>) -> Response<Incoming> {
        let stream = UnixStream::connect(&self.0).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        tokio::time::timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let request = Request::get(path).header("host", "sidecar").body(String::new()).unwrap();
        let response = self.send(request).await;
        (response.status().as_u16(), text(response.into_body()).await)
    }

    /// What it answers to a body of a kind, at a path.
    async fn post(&self, path: &str, kind: &str, body: String) -> (u16, HeaderMap, Value) {
        let request = Request::post(path).header("host", "sidecar").header("content-type", kind);
        let response = self.send(request.body(body).unwrap()).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = text(response.into_body()).await;
        (status, headers, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn verify(&self, call: &Value) -> (u16, Value) {
        let (status, _, said) = self.post("/v1/verify", "application/json", call.to_string()).await;
        (status, said)
    }

    /// Reason and status of a refusal.
    async fn refused(&self, call: &Value) -> (u16, String) {
        let (status, said) = self.verify(call).await;
        assert_eq!(said["active"], false, "{said}");
        assert_eq!(said["status"], status);
        (status, said["reason"].as_str().unwrap().to_owned())
    }

    /// An answer that stays open.
    async fn admit(&self, call: &Value) -> Lines {
        let request = Request::post("/v1/admit").header("host", "sidecar");
        let request = request.header("content-type", "application/json");
        let stream = UnixStream::connect(&self.0).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        let sent = sender.send_request(request.body(call.to_string()).unwrap());
        let response = tokio::time::timeout(PATIENCE, sent).await.unwrap().unwrap();
        let status = response.status().as_u16();
        Lines { status, body: response.into_body(), connection, read: String::new() }
    }
}

/// The lines of an answer that stays open, and the connection that they come over.
struct Lines {
    status: u16,
    body: Incoming,
    connection: JoinHandle<()>,
    read: String,
}

impl Lines {
    async fn next(&mut self) -> Value {
        tokio::time::timeout(PATIENCE, self.line()).await.expect("nothing is said")
    }

    async fn line(&mut self) -> Value {
        loop {
            if let Some((line, rest)) = self.read.split_once('\n') {
                let (line, rest) = (line.to_owned(), rest.to_owned());
                self.read = rest;
                if !line.is_empty() {
                    return serde_json::from_str(&line).unwrap();
                }
                continue;
            }
            let more = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await;
            let data = more.expect("the answer ended").unwrap().into_data().unwrap();
            self.read.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    /// Hangs up, as a process does that dies.
    async fn hang_up(self) {
        self.connection.abort();
        let _ = self.connection.await;
    }
}

async fn text(mut body: Incoming) -> String {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        bytes.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
    }
    String::from_utf8(bytes).unwrap()
}

/// A question about a token that is bound to a certificate.
fn call(token: &Token) -> Value {
    json!({
        "authorization": format!("Bearer {}", token.text),
        "certificate_sha256": BASE64_URL_SAFE_NO_PAD.encode(token.certificate.unwrap()),
        "actions": ["read"],
    })
}

fn with(mut call: Value, name: &str, value: impl Into<Value>) -> Value {
    call[name] = value.into();
    call
}

fn without(mut call: Value, name: &str) -> Value {
    call.as_object_mut().unwrap().remove(name).unwrap();
    call
}
