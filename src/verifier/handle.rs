//! The handle: a verifier that runs, with its connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderName;
use parking_lot::Mutex;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::admission::Admission;
use super::check::{Checker, Outcome, Presented, Scheme, wants_keys};
use super::connection::{Broker, CALL_TIMEOUT, Link};
use super::mirror::Mirror;
use super::refused::Refused;
use super::settings::{Settings, SettingsError, WhenStale};
use crate::clock::{Clock, Present, SystemClock};
use crate::domain::feed::InstanceId;
use crate::domain::time::Span;
use crate::proto::v1::IntrospectCredentialRequest;
use crate::proto::v1::introspect_credential_request::Credential as Shown;
use crate::proto::v1::verification_service_client::VerificationServiceClient;

/// How often the broker's keys are read again.
const KEYS_INTERVAL: Duration = Duration::from_secs(300);
/// How long a key that is not known has the broker's keys read again at most once.
const KEYS_PAUSE: Span = Span::from_seconds(5);

/// A verifier that runs. Clones are one verifier; when the last one is dropped, its connections end.
///
/// It lets nothing in until it has heard a broker's answer ([`Verifier::ready`]). A process that is started again is another
/// run, which knows nothing of the one before.
#[derive(Clone)]
pub struct Verifier {
    running: Arc<Running>,
}

struct Running {
    link: Arc<Link>,
    brokers: Vec<Arc<Broker>>,
    when_stale: WhenStale,
    /// When a key that was not known last had the keys read, in microseconds of the monotonic clock; 0: never.
    keys_read: AtomicU64,
    /// Ended when this is dropped.
    tasks: Mutex<JoinSet<()>>,
}

/// A verifier cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// With such settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No two runs may have one name, and without randomness none can be drawn.
    #[error(
        "the system's source of randomness failed; check that the process may call `getrandom`"
    )]
    Entropy,
}

impl Verifier {
    /// Begins to follow the brokers, in tasks of the runtime that this is called in. It need not reach any yet.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        Self::start_with(settings, Arc::new(SystemClock::default()))
    }

    /// The same by another clock.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn start_with(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        settings.check()?;
        let mut random = [0; 16];
        SystemRandom::new().fill(&mut random).map_err(|_| StartError::Entropy)?;
        // INVARIANT (fencing, rules 5 and 11): another run is another instance, and begins with nothing.
        let mirror = Mirror::new(InstanceId::new(u128::from_be_bytes(random)));
        let Settings { brokers, identity, name, issuer, rules, when_stale } = settings;
        let checker = Checker::new(rules, mirror, Present::read(&*clock).moment);
        let link = Arc::new(Link { checker, clock, identity, name, issuer });
        let broker = |address| Arc::new(Broker { address, channel: None.into() });
        let brokers: Vec<_> = brokers.into_iter().map(broker).collect();
        let mut tasks = JoinSet::new();
        for broker in &brokers {
            let (link, broker) = (Arc::clone(&link), Arc::clone(broker));
            tasks.spawn(async move { link.follow(&broker).await });
        }
        tasks.spawn(refresh_keys(Arc::clone(&link), brokers.clone()));
        let keys_read = AtomicU64::new(0);
        let running = Running { link, brokers, when_stale, keys_read, tasks: Mutex::new(tasks) };
        Ok(Self { running: Arc::new(running) })
    }

    /// Checks a token without asking anybody.
    ///
    /// # Errors
    /// [`Refused`], for the first rule that it breaks.
    pub fn check(&self, shown: &Presented<'_>) -> Result<Admission, Refused> {
        self.checker().check(shown, self.present())
    }

    /// Checks a token, and asks a broker where that can change the answer: for keys that are not known, and, if so configured,
    /// while the view is too old.
    ///
    /// # Errors
    /// [`Refused`], for the first rule that it breaks.
    pub async fn admit(&self, shown: &Presented<'_>) -> Result<Admission, Refused> {
        let mut looked = self.checker().look(shown, self.present());
        if looked.as_ref().is_err_and(wants_keys) && self.read_keys().await {
            looked = self.checker().look(shown, self.present());
        }
        self.settle(looked?, || Shown::Token(shown.token.to_owned())).await
    }

    /// Checks a certificate for a task, in DER with what leads up to the broker's bundle, as [`Self::admit`] does a token: all
    /// but its audience and what it allows.
    ///
    /// # Errors
    /// [`Refused`], for the first rule that it breaks.
    pub async fn admit_certificate(
        &self,
        leaf: &[u8],
        intermediates: &[&[u8]],
    ) -> Result<Admission, Refused> {
        let looked = self.checker().look_at_certificate((leaf, intermediates), self.present())?;
        self.settle(looked, || Shown::CertificateDer(leaf.to_vec())).await
    }

    /// Waits until something can be let in: a broker has sent its keys and every revocation, and said how fresh they are.
    pub async fn ready(&self) {
        let mut changes = self.checker().mirror().published();
        while self.age().is_none() || self.checker().trust().is_none() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// How old what is known of revocations is; `None`: nothing is known.
    pub fn age(&self) -> Option<Span> {
        self.checker().mirror().age(self.present())
    }

    /// What checks credentials, for whoever brings time and certificates along.
    pub fn checker(&self) -> &Checker {
        &self.running.link.checker
    }

    /// The headers that go with a refusal over HTTP. `scheme`: by which the token came.
    pub fn challenges(&self, refused: &Refused, scheme: Scheme) -> Vec<(HeaderName, String)> {
        self.checker().challenges(refused, scheme, self.present())
    }

    /// Stops following the brokers. Once this is done they hear no more of what runs here: whoever waits for DRAINED is told
    /// that this verifier is gone. Call it before work is cut off, which would else look like work that is over.
    pub async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.running.tasks.lock());
        tasks.shutdown().await;
    }

    /// Both clocks.
    pub fn present(&self) -> Present {
        Present::read(&*self.running.link.clock)
    }

    async fn settle(
        &self,
        outcome: Outcome,
        shown: impl FnOnce() -> Shown,
    ) -> Result<Admission, Refused> {
        match (outcome, self.running.when_stale) {
            (Outcome::Admitted(admission), _) => Ok(admission),
            (Outcome::Stale(stale), WhenStale::Refuse) => Err(stale.refused()),
            (Outcome::Stale(stale), WhenStale::Introspect) => {
                let asked = self.introspect(shown(), stale.delta()).await?;
                self.checker().confirm(stale, asked, self.present())
            }
        }
    }

    /// When a broker was asked that said yes. Whatever is not a clear yes is a no, and one as late as Δ is none.
    async fn introspect(&self, shown: Shown, delta: Span) -> Result<Present, Refused> {
        let patience = CALL_TIMEOUT.min(delta.to_std());
        for channel in self.running.brokers.iter().filter_map(|broker| broker.channel.load_full()) {
            let mut client = VerificationServiceClient::new(channel.as_ref().clone());
            let request = IntrospectCredentialRequest { credential: Some(shown.clone()) };
            let asked = self.present();
            match timeout(patience, client.introspect_credential(request)).await {
                Ok(Ok(answer)) if answer.get_ref().active => return Ok(asked),
                Ok(Ok(_)) => return Err(Refused::NotActive),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        Err(Refused::NobodyAnswers)
    }

    /// Reads the broker's keys now, unless that was done a moment ago: strangers name keys as they like.
    async fn read_keys(&self) -> bool {
        let now = self.present().moment.since(Default::default()).micros().max(1);
        let before = self.running.keys_read.load(Ordering::Acquire);
        let is_due = before == 0 || now.saturating_sub(before) >= KEYS_PAUSE.micros();
        let exchange = || {
            let (last, new) = (Ordering::AcqRel, Ordering::Acquire);
            self.running.keys_read.compare_exchange(before, now, last, new).is_ok()
        };
        is_due && exchange() && read_keys(&self.running.link, &self.running.brokers).await
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verifier({})", self.checker().mirror().instance())
    }
}

async fn refresh_keys(link: Arc<Link>, brokers: Vec<Arc<Broker>>) {
    loop {
        tokio::time::sleep(KEYS_INTERVAL).await;
        read_keys(&link, &brokers).await;
    }
}

/// From the first broker that answers.
async fn read_keys(link: &Link, brokers: &[Arc<Broker>]) -> bool {
    for broker in brokers {
        let Some(channel) = broker.channel.load_full() else { continue };
        match link.fetch_trust(&channel).await {
            Ok(trust) => {
                link.checker.set_trust(trust);
                return true;
            }
            Err(lost) => tracing::warn!(broker = broker.address, "keys not read: {lost}"),
        }
    }
    false
}
