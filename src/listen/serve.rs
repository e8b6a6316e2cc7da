//! Answers requests on connections: HTTP/2 or HTTP/1.1, as the handshake agreed, each connection for a bounded time.
//!
//! A connection that is old enough is told to go away, so that its peer shakes hands again with the certificate that it
//! has by then. The same happens to every connection when the server stops.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use futures_util::{Stream, StreamExt};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::runtime::Handle;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::connections::Connection;
use super::corked::Corked;
use super::steps::{Executor, in_steps};

/// Streams that a peer may reset before they were accepted: the guard against CVE-2023-44487.
const MAX_PENDING_RESETS: usize = 20;
/// Bytes of one request's headers, which hold a token of at most 8 KiB.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// Bytes of one request's body that are taken before somebody reads them: no message is longer.
const MAX_AHEAD_BYTES: u32 = 64 * 1024;
/// The same of all requests of a connection together.
const MAX_CONNECTION_AHEAD_BYTES: u32 = 256 * 1024;
/// Bytes that every HTTP/2 peer sends first (RFC 9113 section 3.4).
const PREFACE_BYTES: usize = 24;

/// What one connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// After so long, or up to a tenth less, the peer is told to connect again.
    pub max_age: Duration,
    /// How long requests that run then, or when the server stops, may go on.
    pub grace: Duration,
    /// Requests at a time on one HTTP/2 connection.
    pub streams: u32,
    /// How long an HTTP/1.1 peer may take for the headers of a request, and an HTTP/2 peer for its first words.
    pub header_timeout: Duration,
    /// How often an HTTP/2 peer is asked whether it is there, and how long it may take to say so.
    pub keep_alive: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(300),
            grace: Duration::from_secs(15),
            streams: 256,
            header_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(20),
        }
    }
}

/// The threads that serve connections.
#[derive(Clone, Debug)]
pub struct Threads {
    /// For peers that go first.
    pub first: Handle,
    /// For all others, who let any thread that waits for the processor go first, again and again; `None`: nobody goes first.
    pub others: Option<Handle>,
}

impl Threads {
    /// Those of the runtime that this runs on, for everybody.
    ///
    /// # Panics
    /// If it runs on none.
    pub fn shared() -> Self {
        Self { first: Handle::current(), others: None }
    }
}

/// Answers every request with `router` until `stop`, then lets running requests end within the grace period.
///
/// Each request has the connection's [`super::connections::PeerInfo`] in its extensions.
pub async fn serve(
    router: Router,
    connections: impl Stream<Item = Result<Connection, Infallible>>,
    limits: ConnectionLimits,
    stop: CancellationToken,
) {
    serve_on(Threads::shared(), router, connections, limits, stop).await;
}

/// The same, on threads that are not those of this. Connections are accepted, and hands shaken, here.
pub async fn serve_on(
    threads: Threads,
    router: Router,
    connections: impl Stream<Item = Result<Connection, Infallible>>,
    limits: ConnectionLimits,
    stop: CancellationToken,
) {
    let open = TaskTracker::new();
    {
        let mut connections = pin!(connections);
        while let Some(Some(Ok(connection))) = stop.run_until_cancelled(connections.next()).await {
            let others = threads.others.as_ref().filter(|_| !connection.goes_first());
            let executor = others.map_or(Executor::First, |_| Executor::InSteps);
            let conversation =
                converse(router.clone(), connection, (limits, executor), stop.clone());
            match others {
                Some(others) => open.spawn_on(in_steps(conversation), others),
                None => open.spawn_on(conversation, &threads.first),
            };
        }
        // The listening socket closes here: nobody is let in to wait for an answer that will not come.
    }
    open.close();
    open.wait().await;
}

async fn converse(
    router: Router,
    mut connection: Connection,
    (limits, executor): (ConnectionLimits, Executor),
    stop: CancellationToken,
) {
    if let Err(fault) = connection.settle() {
        tracing::debug!(address = %connection.peer().address, %fault, "connection closed");
        return;
    }
    let peer = connection.peer().clone();
    let closing = peer.closing.clone();
    let age = limits.max_age - limits.max_age / 160 * u32::from(peer.address.port() % 16);
    let builder = builder(connection.is_http2(), executor, limits);
    let received = connection.is_http2().then(|| connection.received());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().call(request.map(Body::new))
    });
    // Who goes first does not wait for others' answers, either.
    let stream = match connection.is_http2() && !connection.goes_first() {
        true => Either::Left(Corked::new(connection)),
        false => Either::Right(connection),
    };
    let mut conversation = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = &mut conversation => return,
        () = mute(received, limits.header_timeout) => return,
        () = tokio::time::sleep(age) => {}
        () = stop.cancelled() => {}
    }
    conversation.as_mut().graceful_shutdown();
    closing.cancel();
    if tokio::time::timeout(limits.grace, conversation).await.is_err() {
        tracing::debug!("connection closed with requests running");
    }
}

/// Ends when an HTTP/2 peer has had its time and has not begun to speak: hyper would wait for that for ever.
async fn mute(received: Option<Arc<AtomicUsize>>, time: Duration) {
    tokio::time::sleep(time).await;
    if received.is_none_or(|bytes| bytes.load(Ordering::Relaxed) >= PREFACE_BYTES) {
        std::future::pending().await
    }
}

fn builder(is_http2: bool, executor: Executor, limits: ConnectionLimits) -> Builder<Executor> {
    let builder = Builder::new(executor);
    let mut builder = if is_http2 { builder.http2_only() } else { builder.http1_only() };
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(MAX_AHEAD_BYTES)
        .initial_connection_window_size(MAX_CONNECTION_AHEAD_BYTES)
        .keep_alive_interval(limits.keep_alive)
        .keep_alive_timeout(limits.keep_alive);
    builder
}
