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
use super::socket::Socket;
use crate::identity::client_cert::with_fault;
use crate::identity::peer::PeerSvid;

/// How long to wait after a failed `accept`: it mostly means that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a listener takes on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections, those that shake hands included. One more is closed, at once if none is reserved.
    pub connections: usize,
    /// Connections beyond these, for peers that go first: whoever else knocks then is closed after the handshake.
    pub reserved: usize,
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
            reserved: 0,
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

/// Tells by a verified certificate whether its peer goes first: there are connections for it when there are for nobody else, and
/// it has threads that serve nobody else.
pub type GoesFirst = Arc<dyn Fn(&PeerSvid) -> bool + Send + Sync>;

/// A connection after its handshake, if it has one.
#[derive(Debug)]
pub struct Connection {
    stream: Either<TlsStream<Socket>, Socket>,
    peer: PeerInfo,
    goes_first: bool,
    received: Arc<AtomicUsize>,
    _place: Place,
}

/// Room for one connection.
#[derive(Debug)]
struct Place {
    _open: OwnedSemaphorePermit,
    /// Of its address; what is reserved is nobody's share.
    _share: Option<Share>,
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
    connections_where(sockets, tls, limits, Arc::new(|_| false))
}

/// The same, where some peers go first.
pub fn connections_where(
    sockets: impl Stream<Item = io::Result<TcpStream>> + Send + 'static,
    tls: Arc<ServerConfig>,
    limits: Limits,
    goes_first: GoesFirst,
) -> impl Stream<Item = Result<Connection, Infallible>> + Send {
    through(sockets, Some(TlsAcceptor::from(tls)), limits, goes_first)
}

/// Connections without TLS, and so from nobody: only for numbers on this machine.
pub fn plain_connections(
    sockets: impl Stream<Item = io::Result<TcpStream>> + Send + 'static,
    limits: Limits,
) -> impl Stream<Item = Result<Connection, Infallible>> + Send {
    through(sockets, None, limits, Arc::new(|_| false))
}

fn through(
    sockets: impl Stream<Item = io::Result<TcpStream>> + Send + 'static,
    acceptor: Option<TlsAcceptor>,
    limits: Limits,
    goes_first: GoesFirst,
) -> impl Stream<Item = Result<Connection, Infallible>> + Send {
    let door = Door {
        sockets: sockets.boxed().fuse(),
        handshakes: JoinSet::new(),
        acceptor,
        goes_first,
        open: Arc::new(Semaphore::new(limits.connections)),
        reserve: Arc::new(Semaphore::new(limits.reserved)),
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
    goes_first: GoesFirst,
    open: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
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
        let place = self.place_for(address);
        // INVARIANT (reserved for those who go first): without a place only a verified certificate leads to one, so whoever comes
        // then has to show it. There are never more of those at a time than handshakes.
        let is_worth_it = place.is_some() || self.reserve.available_permits() > 0;
        let shaking = self.handshake_shares.take(address.ip()).filter(|_| is_worth_it);
        let Some(shaking) = shaking else {
            tracing::debug!(%address, "connection closed: too many are open, or of this address");
            return;
        };
        let (acceptor, limit) = (self.acceptor.clone(), self.limits.handshake_timeout);
        let (refusals, goes_first) = (Arc::clone(&self.refusals), Arc::clone(&self.goes_first));
        let reserve = Arc::clone(&self.reserve);
        self.handshakes.spawn(async move {
            let _shaking = shaking;
            let handshake = with_fault(shake_hands(acceptor, socket, address));
            match tokio::time::timeout(limit, handshake).await {
                Ok((Ok((stream, peer)), _)) => {
                    let goes_first = peer.svid.as_deref().is_some_and(|svid| goes_first(svid));
                    let place = place.or_else(|| goes_first.then(|| reserved(reserve)).flatten());
                    if let Some(place) = place {
                        let received = Arc::default();
                        return Some(Connection {
                            stream,
                            peer,
                            goes_first,
                            received,
                            _place: place,
                        });
                    }
                    tracing::debug!(%address, "connection closed: only reserved ones are left");
                }
                Ok((Err(_), Some(fault))) => refusals.log(address, &fault),
                Ok((Err(fault), None)) => tracing::debug!(%address, %fault, "handshake failed"),
                Err(_) => tracing::debug!(%address, "handshake took too long"),
            }
            None
        });
    }

    /// Room for a connection that anybody may have.
    fn place_for(&self, address: SocketAddr) -> Option<Place> {
        let open = Arc::clone(&self.open).try_acquire_owned().ok()?;
        let share = self.shares.take(address.ip())?;
        Some(Place { _open: open, _share: Some(share) })
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

    /// Whether the peer goes first.
    pub fn goes_first(&self) -> bool {
        self.goes_first
    }

    /// Has the runtime that this runs on hear of it, and no other.
    ///
    /// # Errors
    /// The system's; the connection is closed then.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Either::Left(tls) => tls.get_mut().0.settle(),
            Either::Right(socket) => socket.settle(),
        }
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

/// Room for a connection of somebody who goes first.
fn reserved(reserve: Arc<Semaphore>) -> Option<Place> {
    let open = reserve.try_acquire_owned().ok()?;
    Some(Place { _open: open, _share: None })
}

async fn shake_hands(
    acceptor: Option<TlsAcceptor>,
    socket: TcpStream,
    address: SocketAddr,
) -> io::Result<(Either<TlsStream<Socket>, Socket>, PeerInfo)> {
    socket.set_nodelay(true)?;
    let (socket, closing) = (Socket::new(socket), CancellationToken::new());
    let Some(acceptor) = acceptor else {
        return Ok((Either::Right(socket), PeerInfo { address, svid: None, closing }));
    };
    let stream = acceptor.accept(socket).await?;
    let chain = stream.get_ref().1.peer_certificates();
    let svid = chain.map(|chain| {
        let chain = chain.iter().map(|der| der.clone().into_owned());
        Arc::new(PeerSvid::new(chain.collect()))
    });
    Ok((Either::Left(stream), PeerInfo { address, svid, closing }))
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
