//! From a listening socket to connections: accept, shake hands, remember who the peer is.
//!
//! Nothing that a peer or the system does ends the stream: a failed `accept` is tried again, a slow, broken or refused
//! handshake costs its own connection only, and what is open at once is bounded, in all and for each address.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{self, BoxStream, Fuse, Stream, StreamExt};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use super::refusals::Refusals;
use super::shares::{Share, Shares};
use crate::identity::client_cert::with_fault;
use crate::identity::peer::PeerSvid;

/// How long to wait after a failed `accept`: it mostly means that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a listener takes on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections, those that shake hands included. One more is closed at once.
    pub connections: usize,
    /// Connections of one address (of IPv6, of one /64). Of the handshakes it may take as large a part.
    pub connections_per_address: usize,
    /// Connections that shake hands. The next ones wait in the system's queue.
    pub handshakes: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            connections_per_address: 1_024,
            handshakes: 512,
            handshake_timeout: Duration::from_secs(5),
        }
    }
}

impl Limits {
    fn handshakes_per_address(&self) -> usize {
        let part = self.handshakes.saturating_mul(self.connections_per_address);
        part.div_ceil(self.connections.max(1)).clamp(1, self.handshakes.max(1))
    }
}

/// Who is at the other end: in the extensions of every request of the connection.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// The peer's address.
    pub address: SocketAddr,
    /// Its client certificate, if it showed one. Ask it again in every call.
    pub svid: Option<Arc<PeerSvid>>,
    /// Cancelled when the connection takes no more requests: what goes on for long is to end by itself.
    pub closing: CancellationToken,
}

/// A connection after its handshake, if it has one.
#[derive(Debug)]
pub struct Connection {
    stream: Either<TlsStream<TcpStream>, TcpStream>,
    peer: PeerInfo,
    received: Arc<AtomicUsize>,
    _place: Place,
}

/// Room for one connection.
#[derive(Debug)]
struct Place {
    _open: OwnedSemaphorePermit,
    _share: Share,
}

/// Connections to a listening socket, for [`connections()`].
pub fn sockets(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> + Send {
    stream::unfold(listener, |listener| async move {
        let socket = listener.accept().await.map(|(socket, _)| socket);
        Some((socket, listener))
    })
}

/// Shakes hands with everyone who connects, side by side; ends only when `sockets` does.
pub fn connections(
    sockets: impl Stream<Item = io::Result<TcpStream>> + Send + 'static,
    tls: Arc<ServerConfig>,
    limits: Limits,
) -> impl Stream<Item = Result<Connection, Infallible>> + Send {
    through(sockets, Some(TlsAcceptor::from(tls)), limits)
}

/// Connections without TLS, and so from nobody: only for numbers on this machine.
pub fn plain_connections(
    sockets: impl Stream<Item = io::Result<TcpStream>> + Send + 'static,
    limits: Limits,
) -> impl Stream<Item = Result<Connection, Infallible>> + Send {
    through(sockets, None, limits)
}

fn through(
    sockets: impl Stream<Item = io::Result<TcpStream>> + Send + 'static,
    acceptor: Option<TlsAcceptor>,
    limits: Limits,
) -> impl Stream<Item = Result<Connection, Infallible>> + Send {
    let door = Door {
        sockets: sockets.boxed().fuse(),
        handshakes: JoinSet::new(),
        acceptor,
        open: Arc::new(Semaphore::new(limits.connections)),
        shares: Shares::new(limits.connections_per_address),
        handshake_shares: Shares::new(limits.handshakes_per_address()),
        refusals: Arc::default(),
        limits,
        is_failing: false,
    };
    stream::unfold(door, |mut door| async move {
        let connection = door.next().await?;
        Some((Ok(connection), door))
    })
}

struct Door {
    sockets: Fuse<BoxStream<'static, io::Result<TcpStream>>>,
    handshakes: JoinSet<Option<Connection>>,
    acceptor: Option<TlsAcceptor>,
    open: Arc<Semaphore>,
    shares: Shares,
    handshake_shares: Shares,
    refusals: Arc<Refusals>,
    limits: Limits,
    is_failing: bool,
}

impl Door {
    async fn next(&mut self) -> Option<Connection> {
        loop {
            tokio::select! {
                biased;
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return Some(connection);
                    }
                }
                Some(socket) = self.sockets.next(),
                    if self.handshakes.len() < self.limits.handshakes =>
                {
                    match socket {
                        Ok(socket) => self.begin(socket),
                        Err(fault) => self.pause(&fault).await,
                    }
                }
                else => return None,
            }
        }
    }

    fn begin(&mut self, socket: TcpStream) {
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("connections are accepted again");
        }
        // A peer that is gone already has no address.
        let Ok(address) = socket.peer_addr() else { return };
        let Some((place, shaking)) = self.room_for(address) else {
            tracing::debug!(%address, "connection closed: too many are open, or of this address");
            return;
        };
        let (acceptor, limit) = (self.acceptor.clone(), self.limits.handshake_timeout);
        let refusals = Arc::clone(&self.refusals);
        self.handshakes.spawn(async move {
            let _shaking = shaking;
            let handshake = with_fault(shake_hands(acceptor, socket, address, place));
            match tokio::time::timeout(limit, handshake).await {
                Ok((Ok(connection), _)) => return Some(connection),
                Ok((Err(_), Some(fault))) => refusals.log(address, &fault),
                Ok((Err(fault), None)) => tracing::debug!(%address, %fault, "handshake failed"),
                Err(_) => tracing::debug!(%address, "handshake took too long"),
            }
            None
        });
    }

    /// Room for a connection, and for its handshake.
    fn room_for(&self, address: SocketAddr) -> Option<(Place, Share)> {
        let open = Arc::clone(&self.open).try_acquire_owned().ok()?;
        let share = self.shares.take(address.ip())?;
        let shaking = self.handshake_shares.take(address.ip())?;
        Some((Place { _open: open, _share: share }, shaking))
    }

    async fn pause(&mut self, fault: &io::Error) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(%fault, "connections cannot be accepted; trying on");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

impl Connection {
    /// Who is at the other end.
    pub fn peer(&self) -> &PeerInfo {
        &self.peer
    }

    /// How many bytes have come since the handshake, as it goes on.
    pub fn received(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.received)
    }

    /// Whether the handshake agreed on HTTP/2.
    pub fn is_http2(&self) -> bool {
        match &self.stream {
            Either::Left(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
            Either::Right(_) => false,
        }
    }
}

async fn shake_hands(
    acceptor: Option<TlsAcceptor>,
    socket: TcpStream,
    address: SocketAddr,
    place: Place,
) -> io::Result<Connection> {
    socket.set_nodelay(true)?;
    let Some(acceptor) = acceptor else {
        let peer = PeerInfo { address, svid: None, closing: CancellationToken::new() };
        let stream = Either::Right(socket);
        return Ok(Connection { stream, peer, received: Arc::default(), _place: place });
    };
    let stream = acceptor.accept(socket).await?;
    let chain = stream.get_ref().1.peer_certificates();
    let svid = chain.map(|chain| {
        let chain = chain.iter().map(|der| der.clone().into_owned());
        Arc::new(PeerSvid::new(chain.collect()))
    });
    let peer = PeerInfo { address, svid, closing: CancellationToken::new() };
    let stream = Either::Left(stream);
    Ok(Connection { stream, peer, received: Arc::default(), _place: place })
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.received.fetch_add(buf.filled().len() - before, Ordering::Relaxed);
        outcome
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
pub(crate) mod tests;
