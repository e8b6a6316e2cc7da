//! One verifier's stream, as the surface that serves it sees it. It is left when this is dropped.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Feed;
use super::core::{Misuse, Subscriber};
use super::hub::{Next, Positions, StreamId};
use crate::telemetry::metrics;

/// An open stream.
pub struct Stream {
    feed: Arc<Feed>,
    id: StreamId,
    wake: Arc<Notify>,
}

impl Feed {
    /// Opens a stream, which begins with everything that is revoked.
    ///
    /// # Errors
    /// [`Misuse`]: there is no room, or the instance is another verifier's.
    pub fn subscribe(self: &Arc<Self>, verifier: Subscriber) -> Result<Stream, Misuse> {
        let wake = Arc::new(Notify::new());
        let mut core = self.core.lock();
        let id = core.subscribe(verifier, wake.clone(), self.present())?;
        metrics::feed_streams(core.streams());
        Ok(Stream { feed: self.clone(), id, wake })
    }
}

impl Stream {
    /// What comes next.
    pub fn next(&self) -> Next {
        self.feed.core.lock().next(self.id)
    }

    /// Ends when there may be something next; also if that was so since the last time.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }

    /// A keep-alive came.
    ///
    /// # Errors
    /// [`Misuse::SequenceNotRaised`]
    pub fn keep_alive(&self, sequence: u64) -> Result<(), Misuse> {
        let age = {
            let mut core = self.feed.core.lock();
            // The clock is read while nothing else is answered: an age is never younger than the view.
            let now = self.feed.present();
            core.keep_alive(self.id, sequence, now)?
        };
        let is_stale = age.is_none();
        if self.feed.is_stale.swap(is_stale, Ordering::AcqRel) != is_stale {
            match age {
                None => tracing::warn!(
                    "this broker's view of revocations is too old, so its verifiers get no freshness"
                ),
                Some(_) => tracing::info!("verifiers get freshness again"),
            }
        }
        metrics::keep_alive(if is_stale { "stale" } else { "answered" });
        Ok(())
    }

    /// An acknowledgement came.
    ///
    /// # Errors
    /// [`Misuse::NeverSent`]
    pub fn acknowledge(&self, applied: &Positions, drained: &Positions) -> Result<(), Misuse> {
        self.feed.core.lock().acknowledge(self.id, applied, drained)?;
        self.feed.acks.notify_one();
        Ok(())
    }

    /// Cancelled when the broker stops.
    pub fn stopping(&self) -> &CancellationToken {
        self.feed.stopping()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut core = self.feed.core.lock();
        core.leave(self.id, self.feed.present());
        metrics::feed_streams(core.streams());
    }
}
