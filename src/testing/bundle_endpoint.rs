//! A bundle endpoint on this machine, over TLS, whose answers the test writes and whose fetches it counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::response::Response;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::ca::Issued;
use super::issuer::Answer;
use crate::broker::seams::Clock;
use crate::identity::client_cert::SvidClientVerifier;
use crate::identity::trust_bundle::TrustBundles;
use crate::listen::connections::{Limits, connections, sockets};
use crate::listen::serve::{ConnectionLimits, serve};
use crate::listen::tls::{ServerIdentity, server_config};

/// A running endpoint. It ends with the runtime of its test.
#[derive(Debug)]
pub struct TestBundleEndpoint {
    /// Where it answers, `https://localhost:<port>/`.
    pub url: String,
    answer: Arc<Mutex<Answer>>,
    fetches: Arc<AtomicUsize>,
}

impl TestBundleEndpoint {
    /// An endpoint that shows this certificate. It has nothing to say until told.
    pub async fn start(shows: &Issued, clock: Arc<dyn Clock>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://127.0.0.1:{}/", listener.local_addr().unwrap().port());
        let identity =
            ServerIdentity::from_pem(shows.chain_pem().as_bytes(), shows.key_pem().as_bytes());
        let clients = Arc::new(SvidClientVerifier::new(TrustBundles::default().shared()));
        let alpn = ["http/1.1"];
        let tls = server_config(Arc::new(identity.unwrap()), clients, &alpn, clock).unwrap();
        let answer = Arc::new(Mutex::new(Answer::status(503)));
        let fetches = Arc::new(AtomicUsize::default());
        let (said, counted) = (answer.clone(), fetches.clone());
        let router = Router::new().fallback(move || async move {
            counted.fetch_add(1, Ordering::Relaxed);
            respond(said.lock().clone())
        });
        let incoming = connections(sockets(listener), tls, Limits::default());
        let stop = CancellationToken::new();
        tokio::spawn(serve(router, incoming, ConnectionLimits::default(), stop));
        Self { url, answer, fetches }
    }

    /// Answers every fetch from now on.
    pub fn says(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }

    /// How often it was asked; who did not take it for the right server asked nothing.
    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }
}

fn respond(answer: Answer) -> Response {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(answer.body.into()).unwrap()
}
