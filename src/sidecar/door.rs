//! A socket that is answered at: HTTP/1.1, and HTTP/2 without TLS, each connection beside the others.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::Options;

/// How often a peer of HTTP/2 is asked whether it is there, and how long it may take to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Requests at a time on one connection of HTTP/2.
const STREAMS: u32 = 1_024;
/// Bytes of one request's headers.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// How long to wait after a failed `accept`: it mostly means that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A socket that listens.
#[derive(Debug)]
pub enum Door {
    /// For whoever may open its file.
    Unix(UnixListener),
    /// For whoever reaches it.
    Tcp(TcpListener),
}

type Stream = Either<UnixStream, TcpStream>;

impl Door {
    /// Answers until `stop`, and then until what runs is over or the grace period is. What is still open then is handed back.
    pub(super) async fn serve(
        self,
        router: Router,
        options: &Options,
        stop: CancellationToken,
    ) -> JoinSet<()> {
        let mut open = JoinSet::new();
        while let Some(accepted) = stop.run_until_cancelled(self.next(&mut open, options)).await {
            match accepted {
                Ok(stream) => {
                    open.spawn(converse(stream, router.clone(), options.patience, stop.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
        drop(self);
        let over = async { while open.join_next().await.is_some() {} };
        if timeout(options.grace, over).await.is_err() {
            tracing::warn!(connections = open.len(), "stopped while requests run");
        }
        open
    }

    async fn next(&self, open: &mut JoinSet<()>, options: &Options) -> io::Result<Stream> {
        while open.len() >= options.connections {
            open.join_next().await;
        }
        while open.try_join_next().is_some() {}
        match self {
            Self::Unix(listener) => Ok(Either::Left(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let stream = listener.accept().await?.0;
                stream.set_nodelay(true)?;
                Ok(Either::Right(stream))
            }
        }
    }
}

async fn converse(stream: Stream, router: Router, patience: Duration, stop: CancellationToken) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let has_asked = Arc::new(AtomicBool::new(false));
    let asking = Arc::clone(&has_asked);
    let service = service_fn(move |request: Request<Incoming>| {
        asking.store(true, Ordering::Relaxed);
        router.clone().call(request.map(Body::new))
    });
    let mut conversation = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = &mut conversation => return,
        () = mute(&has_asked, patience) => return,
        () = stop.cancelled() => conversation.as_mut().graceful_shutdown(),
    }
    let _ = conversation.await;
}

/// Ends when a peer has had its time and has asked nothing: which version of HTTP it speaks would be waited for without end.
async fn mute(has_asked: &AtomicBool, patience: Duration) {
    tokio::time::sleep(patience).await;
    if has_asked.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}
