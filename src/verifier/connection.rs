//! The connection to one broker, which is made again whenever it is lost.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::FutureExt as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, timeout};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Status, Streaming};
use zeroize::Zeroizing;

use super::check::Checker;
use super::mirror::NotTaken;
use super::settings::Identity;
use super::stream::{Stream, StreamError};
use super::trust::{Trust, TrustError};
use crate::clock::{Clock, Present};
use crate::domain::time::Span;
use crate::proto::v1::verification_service_client::VerificationServiceClient;
use crate::proto::v1::{GetTrustBundleRequest, WatchRevocationsRequest, WatchRevocationsResponse};

/// For connecting, and for every call but the stream.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a message of the feed.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// Messages that wait to be sent. A broker that reads so slowly is given up.
const QUEUE: usize = 32;
/// Messages that are taken before the view is swapped, if they are there already.
const BATCH: usize = 256;
/// After the first failure, at most; doubled with each one.
const FIRST_WAIT: Span = Span::from_millis(100);
/// After any number of failures, at most.
const LONGEST_WAIT: Span = Span::from_seconds(5);

/// A broker, and the last connection to it: calls may go through while the stream does not.
pub(super) struct Broker {
    pub(super) address: String,
    pub(super) channel: ArcSwapOption<Channel>,
}

/// What every connection needs.
pub(super) struct Link {
    pub(super) checker: Checker,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) identity: Identity,
    pub(super) name: String,
    pub(super) issuer: Option<String>,
}

/// A connection could not be made, or is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("`{0}`: {1}")]
    File(String, std::io::Error),
    #[error("no connection: {0}")]
    Connect(String),
    #[error("no answer in {} s", CALL_TIMEOUT.as_secs())]
    Late,
    #[error("the broker refuses: {}: {}", crate::proto::code_name(.0.code()), .0.message())]
    Refused(#[from] Status),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("the broker ended the stream")]
    Ended,
    #[error("the broker does not read what it is sent")]
    Slow,
    #[error("the broker does not answer keep-alives: its own view is too old")]
    Silent,
}

impl Lost {
    fn is_of_other_store(&self) -> bool {
        matches!(self, Self::Stream(StreamError::NotTaken(NotTaken::OtherStore(_))))
    }
}

impl Link {
    /// Keeps the stream to one broker going, for as long as it is polled.
    pub(super) async fn follow(&self, broker: &Broker) {
        let (mut failures, mut told): (u32, Option<String>) = (0, None);
        loop {
            let mut was_fresh = false;
            let lost = match self.converse(broker, &mut was_fresh).await {
                Ok(never) => match never {},
                Err(lost) => lost,
            };
            if lost.is_of_other_store() {
                broker.channel.store(None);
            }
            failures = if was_fresh { 1 } else { failures.saturating_add(1) };
            let wait = wait(failures, jitter());
            let lost = lost.to_string();
            if was_fresh || told.as_ref() != Some(&lost) {
                tracing::warn!(broker = broker.address, "feed lost; trying again: {lost}");
            } else {
                tracing::debug!(broker = broker.address, "feed not there yet: {lost}");
            }
            told = Some(lost);
            tokio::time::sleep(wait.to_std()).await;
        }
    }

    async fn converse(
        &self,
        broker: &Broker,
        was_fresh: &mut bool,
    ) -> Result<std::convert::Infallible, Lost> {
        let channel = self.dial(&broker.address).await?;
        // INVARIANT (fencing, rule 19): a broker over another store than the one that is followed replaces no keys, and is asked for
        // nothing. Where there are none yet there is nothing to replace, and calls may go through where the stream does not.
        let (trust, asked) = (self.fetch_trust(&channel).await?, Arc::new(channel.clone()));
        if self.checker.set_first_trust(&trust) {
            broker.channel.store(Some(Arc::clone(&asked)));
        }
        let mut new = Some((trust, asked));
        let mirror = Arc::clone(self.checker.mirror());
        let mut drained = mirror.admissions().drained();
        let (mut stream, first) = Stream::open(mirror, &self.name);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let send = |message| sender.try_send(message).map_err(|_| Lost::Slow);
        send(first)?;
        let mut responses = watch(channel, receiver).await?;
        let mut beats: Option<Interval> = None;
        loop {
            let beat = async {
                match beats.as_mut() {
                    Some(beats) => beats.tick().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                response = responses.message() => {
                    self.take(&mut stream, &mut responses, response?.ok_or(Lost::Ended)?)?;
                    // Before the first view is swapped in that it could be needed for.
                    if let Some((trust, asked)) = new.take() {
                        self.checker.set_trust(trust);
                        broker.channel.store(Some(asked));
                    }
                    if let Some(acknowledgement) = stream.settle(self.present()) {
                        // Whoever waits for the view goes first.
                        tokio::task::yield_now().await;
                        send(acknowledgement)?;
                    }
                    if !*was_fresh && self.checker.mirror().age(self.present()).is_some() {
                        *was_fresh = true;
                        tracing::info!(broker = broker.address, "revocations are followed");
                    }
                }
                _ = drained.changed() => {
                    if let Some(acknowledgement) = stream.settle(self.present()) {
                        send(acknowledgement)?;
                    }
                }
                _ = beat => self.beat(&mut stream, send)?,
            }
            if beats.is_none() {
                beats = stream.terms().map(|terms| every(terms.interval));
            }
        }
    }

    /// Takes a message, and those that are there already, so that one swap is for all of them.
    fn take(
        &self,
        stream: &mut Stream,
        responses: &mut Streaming<WatchRevocationsResponse>,
        first: WatchRevocationsResponse,
    ) -> Result<(), Lost> {
        stream.receive(first, self.present())?;
        for _ in 1..BATCH {
            match responses.message().now_or_never() {
                Some(Ok(Some(response))) => stream.receive(response, self.present())?,
                Some(Ok(None)) => return Err(Lost::Ended),
                Some(Err(status)) => return Err(status.into()),
                None => break,
            }
        }
        Ok(())
    }

    /// The next keep-alive, unless it is no use to send more of them here.
    fn beat(
        &self,
        stream: &mut Stream,
        send: impl FnOnce(WatchRevocationsRequest) -> Result<(), Lost>,
    ) -> Result<(), Lost> {
        let now = self.present();
        if stream.is_silent(now) {
            return Err(Lost::Silent);
        }
        stream.keep_alive(now).map_or(Ok(()), send)
    }

    fn present(&self) -> Present {
        Present::read(&*self.clock)
    }

    /// Reads the broker's keys.
    pub(super) async fn fetch_trust(&self, channel: &Channel) -> Result<Trust, Lost> {
        let mut client = VerificationServiceClient::new(channel.clone());
        let asked = client.get_trust_bundle(GetTrustBundleRequest {});
        let answer = timeout(CALL_TIMEOUT, asked).await.map_err(|_| Lost::Late)??;
        Ok(Trust::read(answer.into_inner(), self.issuer.as_deref())?)
    }

    async fn dial(&self, address: &str) -> Result<Channel, Lost> {
        let read = |path: &std::path::Path| match std::fs::read(path) {
            Ok(bytes) => Ok(Zeroizing::new(bytes)),
            Err(error) => Err(Lost::File(path.display().to_string(), error)),
        };
        let ca = Certificate::from_pem(read(&self.identity.ca_file)?.as_slice());
        let (cert, key) = (read(&self.identity.cert_file)?, read(&self.identity.key_file)?);
        let own = tonic::transport::Identity::from_pem(cert.as_slice(), key.as_slice());
        let tls = ClientTlsConfig::new().ca_certificate(ca).identity(own);
        let endpoint = Endpoint::from_shared(address.to_owned()).and_then(|e| e.tls_config(tls));
        let endpoint = endpoint.map_err(|error| Lost::Connect(innermost(&error)))?;
        let endpoint = endpoint
            .connect_timeout(CALL_TIMEOUT)
            .http2_keep_alive_interval(CALL_TIMEOUT)
            .keep_alive_timeout(CALL_TIMEOUT);
        endpoint.connect().await.map_err(|error| Lost::Connect(innermost(&error)))
    }
}

async fn watch(
    channel: Channel,
    receiver: mpsc::Receiver<WatchRevocationsRequest>,
) -> Result<Streaming<WatchRevocationsResponse>, Lost> {
    let mut client =
        VerificationServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let requests = futures_util::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|message| (message, receiver))
    });
    let asked = client.watch_revocations(requests);
    Ok(timeout(CALL_TIMEOUT, asked).await.map_err(|_| Lost::Late)??.into_inner())
}

fn every(span: Span) -> Interval {
    let mut interval = tokio::time::interval(span.to_std());
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Doubled with each failure; `jitter` takes away up to a half, so that verifiers do not all come at once.
fn wait(failures: u32, jitter: u8) -> Span {
    let doubled = FIRST_WAIT.times(1 << failures.saturating_sub(1).min(10)).min(LONGEST_WAIT);
    let off = doubled.micros() / 2 * u64::from(jitter) / u64::from(u8::MAX);
    Span::from_micros(doubled.micros() - off)
}

/// Without randomness all verifiers wait equally long, and no worse.
fn jitter() -> u8 {
    let mut byte = [0];
    let _ = SystemRandom::new().fill(&mut byte);
    let [byte] = byte;
    byte
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_seconds_and_jitter_takes_at_most_half() {
        let millis = [100, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000].map(Span::from_millis);
        for (failures, most) in (0..).zip(millis) {
            assert_eq!(wait(failures, 0), most);
            assert_eq!(wait(failures, u8::MAX), Span::from_micros(most.micros() / 2));
        }
        assert_eq!(wait(u32::MAX, 0), LONGEST_WAIT);
    }
}
