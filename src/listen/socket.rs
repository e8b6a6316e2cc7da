//! A TCP connection that can be taken to the threads of another runtime.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection that is registered with one runtime, which hears of it from the system and wakes whoever reads and writes.
#[derive(Debug)]
pub(super) struct Socket {
    /// `None`: it could not be registered, and is closed.
    registered: Option<TcpStream>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { registered: Some(stream) }
    }

    /// Registers it with the runtime that this runs on, instead of the one before: from then on no other runtime's threads have to
    /// get their turn for it.
    ///
    /// # Errors
    /// The system's; the connection is closed then.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        let stream = self.registered.take().ok_or_else(closed)?;
        self.registered = Some(TcpStream::from_std(stream.into_std()?)?);
        Ok(())
    }

    fn stream(self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        self.get_mut().registered.as_mut().map(Pin::new).ok_or_else(closed)
    }
}

fn closed() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.registered.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::runtime;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_moved_is_read_while_the_threads_that_it_came_from_are_held_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let new = || {
            let mut builder = runtime::Builder::new_multi_thread();
            Arc::new(builder.worker_threads(1).enable_all().build().unwrap())
        };
        let (from, to) = (new(), new());
        let mut far = TcpStream::connect(address).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        let near = near.into_std().unwrap();
        let mut near = from
            .spawn(async move { Socket::new(TcpStream::from_std(near).unwrap()) })
            .await
            .unwrap();
        let (settled, is_settled) = tokio::sync::oneshot::channel();
        let reading = to.spawn(async move {
            near.settle().unwrap();
            settled.send(()).unwrap();
            near.read_u8().await.unwrap()
        });
        is_settled.await.unwrap();
        let (held, is_held) = tokio::sync::oneshot::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        from.spawn(async move {
            held.send(()).unwrap();
            released.recv().unwrap_err();
        });
        is_held.await.unwrap();
        far.write_u8(7).await.unwrap();
        let read = tokio::time::timeout(std::time::Duration::from_secs(20), reading).await;
        assert_eq!(read.expect("it waits for the threads that it came from").unwrap(), 7);
        drop(release);
        for runtime in [from, to] {
            Arc::into_inner(runtime).unwrap().shutdown_background();
        }
    }
}
