//! Answers that are ready together leave together: in one TLS record and one system call, not in two for each.
//!
//! HTTP/2 writes and flushes answer by answer. Here a flush asks for another turn of the connection's task, which comes behind
//! all tasks that are ready now. Every turn begins with reading, and there everything leaves that was flushed until then.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};

/// What one TLS record holds. More does not wait for a flush.
const MOST_HELD_BYTES: usize = 16 * 1024;

/// A stream that holds back what is written, for whoever reads in every turn of its task.
#[derive(Debug)]
pub(super) struct Corked<S> {
    stream: BufWriter<S>,
    is_flushed: bool,
    /// The peer takes nothing now; whoever flushes waits until it does.
    is_blocked: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Corked<S> {
    pub(super) fn new(stream: S) -> Self {
        let stream = BufWriter::with_capacity(MOST_HELD_BYTES, stream);
        Self { stream, is_flushed: true, is_blocked: false }
    }

    /// Writes what is held.
    fn release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.stream).poll_flush(cx);
        self.is_flushed = written.is_ready();
        self.is_blocked = written.is_pending();
        written
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Corked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_flushed
            && let Poll::Ready(outcome) = self.release(cx)
        {
            outcome?;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
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

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // INVARIANT (no turn for nothing): a peer that does not read is waited for, or turn would follow turn at full speed.
        if self.stream.buffer().is_empty() || self.is_blocked {
            return self.release(cx);
        }
        // INVARIANT (nothing is held for ever): what is held is written in the turn that is asked for here.
        self.is_flushed = false;
        cx.waker().wake_by_ref();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// How often a task was asked to take another turn.
    #[derive(Default)]
    struct Turns(AtomicUsize);

    impl Wake for Turns {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn say(corked: &mut Corked<DuplexStream>, words: &[u8], cx: &mut Context<'_>) {
        let written = Pin::new(&mut *corked).poll_write(cx, words);
        assert!(matches!(written, Poll::Ready(Ok(bytes)) if bytes == words.len()));
        assert!(matches!(Pin::new(corked).poll_flush(cx), Poll::Ready(Ok(()))));
    }

    fn turn(corked: &mut Corked<DuplexStream>, cx: &mut Context<'_>) {
        let mut room = [0; 8];
        assert!(Pin::new(corked).poll_read(cx, &mut ReadBuf::new(&mut room)).is_pending());
    }

    /// What has come to the other end.
    fn heard(far: &mut DuplexStream) -> Vec<u8> {
        let mut room = [0; 64];
        let bytes = far.read(&mut room).now_or_never().map_or(0, Result::unwrap);
        room[..bytes].to_vec()
    }

    #[test]
    fn answers_of_one_turn_leave_together_in_the_next_which_is_asked_for() {
        let (near, mut far) = duplex(64);
        let (mut corked, turns) = (Corked::new(near), Arc::new(Turns::default()));
        let waker = Waker::from(turns.clone());
        let mut cx = Context::from_waker(&waker);
        say(&mut corked, b"one ", &mut cx);
        say(&mut corked, b"two", &mut cx);
        assert_eq!(heard(&mut far), b"");
        assert!(turns.0.load(Ordering::Relaxed) > 0, "no turn comes in which it leaves");
        turn(&mut corked, &mut cx);
        assert_eq!(heard(&mut far), b"one two");
    }

    #[test]
    fn a_stream_that_has_nothing_to_write_asks_for_no_turn() {
        let (near, _far) = duplex(64);
        let (mut corked, turns) = (Corked::new(near), Arc::new(Turns::default()));
        let waker = Waker::from(turns.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut corked).poll_flush(&mut cx).is_ready());
        turn(&mut corked, &mut cx);
        assert_eq!(turns.0.load(Ordering::Relaxed), 0, "it would never rest");
    }

    #[test]
    fn class_15_a_peer_that_does_not_read_is_waited_for_and_costs_no_turns() {
        let (near, mut far) = duplex(4);
        let (mut corked, turns) = (Corked::new(near), Arc::new(Turns::default()));
        let waker = Waker::from(turns.clone());
        let mut cx = Context::from_waker(&waker);
        say(&mut corked, b"one two", &mut cx);
        turn(&mut corked, &mut cx);
        let before = turns.0.load(Ordering::Relaxed);
        assert!(Pin::new(&mut corked).poll_flush(&mut cx).is_pending());
        turn(&mut corked, &mut cx);
        assert_eq!(turns.0.load(Ordering::Relaxed), before, "a turn that could do nothing");
        assert_eq!(heard(&mut far), b"one ");
        assert!(turns.0.load(Ordering::Relaxed) > before, "nobody says that there is room");
        assert!(Pin::new(&mut corked).poll_flush(&mut cx).is_ready());
        assert_eq!(heard(&mut far), b"two");
    }

    #[test]
    fn what_a_slow_peer_has_no_room_for_leaves_later_and_in_order() {
        let (near, mut far) = duplex(4);
        let mut corked = Corked::new(near);
        let mut cx = Context::from_waker(Waker::noop());
        say(&mut corked, b"one two", &mut cx);
        turn(&mut corked, &mut cx);
        assert_eq!(heard(&mut far), b"one ");
        turn(&mut corked, &mut cx);
        assert_eq!(heard(&mut far), b"two");
    }

    #[tokio::test]
    async fn what_is_held_leaves_before_the_stream_ends() {
        let (near, mut far) = duplex(64);
        let mut corked = Corked::new(near);
        say(&mut corked, b"bye", &mut Context::from_waker(Waker::noop()));
        corked.shutdown().await.unwrap();
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"bye");
    }
}
