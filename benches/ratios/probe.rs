//! The floor of the feed: a keep-alive on a stream on which nothing else happens, and its answer.

use std::time::Duration;

use futures_util::future::try_join_all;
use leasehold::broker::seams::SystemClock;
use leasehold::clock::Present;
use leasehold::domain::feed::InstanceId;
use leasehold::playground::Workload;
use leasehold::proto::v1::verification_service_client::VerificationServiceClient;
use leasehold::proto::v1::watch_revocations_response::Message;
use leasehold::proto::v1::{WatchRevocationsRequest, WatchRevocationsResponse};
use leasehold::verifier::{Mirror, Stream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Streaming;

use crate::Outcome;
use crate::report::Times;
use crate::world::World;

/// More than is ever on its way.
const QUEUE: usize = 64;

/// A verifier of its own, which sends a keep-alive when it is told to.
pub(crate) struct Probe {
    asked: mpsc::Sender<oneshot::Sender<Duration>>,
    conversing: JoinHandle<Outcome<()>>,
}

impl Probe {
    pub(crate) async fn open(world: &World) -> Outcome<Self> {
        let channel = world.connect(Workload::Documents, world.address()).await?;
        let instance = InstanceId::new(uuid::Uuid::new_v4().as_u128());
        let (stream, first) = Stream::open(Mirror::new(instance), "probe");
        let (sender, receiver) = mpsc::channel(QUEUE);
        sender.try_send(first)?;
        let requests = futures_util::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|message| (message, receiver))
        });
        let mut client = VerificationServiceClient::new(channel);
        let responses = client.watch_revocations(requests).await?.into_inner();
        let (asked, asks) = mpsc::channel(1);
        Ok(Self { asked, conversing: tokio::spawn(converse(stream, sender, responses, asks)) })
    }

    /// How long it takes until so many at once have their answers, each on a stream of its own; again and again. No stream is left.
    pub(crate) async fn to_all(world: &World, count: usize, times: usize) -> Outcome<Times> {
        let mut probes = Vec::with_capacity(count);
        for _ in 0..count {
            probes.push(Self::open(world).await?);
        }
        world.settled().await;
        let mut all = Times::default();
        for _ in 0..times {
            let began = Instant::now();
            try_join_all(probes.iter().map(Self::round_trip)).await?;
            all.add(began.elapsed());
        }
        Ok(all)
    }

    /// Sends a keep-alive, and says how long its answer took.
    pub(crate) async fn round_trip(&self) -> Outcome<Duration> {
        let (answer, answered) = oneshot::channel();
        self.asked.send(answer).await.map_err(|_| "the probe's stream is closed")?;
        Ok(answered.await?)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.conversing.abort();
    }
}

async fn converse(
    mut stream: Stream,
    sender: mpsc::Sender<WatchRevocationsRequest>,
    mut responses: Streaming<WatchRevocationsResponse>,
    mut asks: mpsc::Receiver<oneshot::Sender<Duration>>,
) -> Outcome<()> {
    let clock = SystemClock::default();
    let mut open: Option<(Instant, oneshot::Sender<Duration>)> = None;
    loop {
        tokio::select! {
            response = responses.message() => {
                let response = response?.ok_or("the broker ended the probe's stream")?;
                let is_answer = matches!(response.message, Some(Message::Freshness(_)));
                stream.receive(response, Present::read(&clock))?;
                if is_answer
                    && let Some((sent, answer)) = open.take()
                {
                    // Whoever asked may have stopped.
                    answer.send(sent.elapsed()).unwrap_or_default();
                }
                if let Some(acknowledgement) = stream.settle(Present::read(&clock)) {
                    sender.try_send(acknowledgement)?;
                }
            }
            Some(answer) = asks.recv() => {
                let sent = Instant::now();
                let keep_alive = stream.keep_alive(Present::read(&clock));
                sender.try_send(keep_alive.ok_or("the broker has not said `subscribed`")?)?;
                open = Some((sent, answer));
            }
        }
    }
}
