//! The keys of one issuer, kept no longer than its server allows, fetched by one call at a time.
//!
//! ```text
//!  fetched ─────────────── refresh (about 80 %) ── retry … ── usable until (100 %) ── nothing verifies
//! ```
//!
//! A failing refresh leaves the old keys in use until their age is reached and not a moment longer, so a key that its
//! issuer withdrew stops verifying within that age whatever happens. Strangers choose the `kid`: an unknown one may
//! cause a fetch, but only one every [`ASK_INTERVAL`] for all callers together, and only so many wait for it. Who has a
//! known one never waits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;

use crate::domain::time::{Span, Stamp};
use crate::fetch::{FetchError, Fetcher};
use crate::jose::json::{JsonError, Object, parse_object};
use crate::jose::{KeySet, KeySetError, MAX_SET_BYTES};
use crate::telemetry::metrics;

/// Keys are kept at least so long, whatever their server says.
const MIN_AGE: Span = Span::from_seconds(5 * 60);
/// Keys are kept at most so long, whatever their server says.
const MAX_AGE: Span = Span::from_seconds(24 * 3600);
/// Keys are kept so long if their server says nothing.
const DEFAULT_AGE: Span = Span::from_seconds(15 * 60);
/// A file is read again after so long.
const FILE_INTERVAL: Span = Span::from_seconds(5);
/// A refresh that failed is tried again after so long.
const RETRY_INTERVAL: Span = Span::from_seconds(30);
/// Between two fetches that callers cause.
const ASK_INTERVAL: Span = Span::from_seconds(10);
/// A `kid` that a fetch did not bring causes no other for so long.
const UNKNOWN_KID_AGE: Span = Span::from_seconds(5 * 60);
/// So many such `kid`s are remembered.
const MAX_UNKNOWN_KIDS: usize = 256;
/// Callers that wait for one issuer's keys; each holds a request open.
const MAX_WAITING: usize = 256;

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    /// The issuer's discovery document and the `jwks_uri` in it (OpenID Connect Discovery 1.0 section 4).
    Discovery,
    /// A JWK set in a file, read again when it changes.
    File(PathBuf),
}

/// No key to verify with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// The issuer has no key of that name.
    #[error("the issuer has no key with the token's `kid`")]
    UnknownKid,
    /// The keys are not there or too old, and could not be fetched; or too many wait for them. Try again.
    #[error("the issuer's keys cannot be fetched at the moment; try again")]
    Unavailable,
}

/// Why a refresh failed; for the log.
#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the discovery document is malformed: {0}")]
    Discovery(#[from] JsonError),
    #[error("the discovery document is for another issuer")]
    OtherIssuer,
    #[error("the discovery document has no `jwks_uri`")]
    NoJwksUri,
    #[error(transparent)]
    KeySet(#[from] KeySetError),
    #[error("`{0}` cannot be read: {1}")]
    File(String, std::io::ErrorKind),
}

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct JwksCache {
    issuer: String,
    origin: Origin,
    /// Where between 75 % and 85 % of their age this process refreshes keys.
    jitter: u8,
    state: Mutex<State>,
    /// Held by whoever fetches; the others wait for it and look again.
    flight: tokio::sync::Mutex<()>,
    waiting: Semaphore,
}

#[derive(Debug)]
pub(super) enum Origin {
    Discovery(Fetcher),
    File(PathBuf),
}

#[derive(Debug, Default)]
struct State {
    current: Option<Snapshot>,
    last_failed: bool,
    last_fetch: Option<Stamp>,
    next_refresh: Stamp,
    unknown: BTreeMap<String, Stamp>,
}

#[derive(Clone, Debug)]
struct Snapshot {
    keys: Arc<KeySet>,
    fetched: Stamp,
    usable_until: Stamp,
}

impl JwksCache {
    /// An empty cache; the first call fetches.
    pub(super) fn new(issuer: String, origin: Origin, jitter: u8) -> Self {
        let (state, flight) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { issuer, origin, jitter, state, flight, waiting: Semaphore::new(MAX_WAITING) }
    }

    /// A set that has a key of this name, fetched if need be.
    pub(super) async fn keys_with(&self, kid: &str, now: Stamp) -> Result<Arc<KeySet>, JwksError> {
        {
            let state = self.state.lock();
            match state.find(kid, now) {
                Err(error) if state.is_known_unknown(kid, now) => return Err(error),
                Err(_) => {}
                found => return found,
            }
        }
        let _place = self.waiting.try_acquire().map_err(|_| JwksError::Unavailable)?;
        let fetched = self.ask(now).await;
        let mut state = self.state.lock();
        let found = state.find(kid, now);
        if matches!(found, Err(JwksError::UnknownKid)) && fetched && !state.last_failed {
            state.remember_unknown(kid, now);
        }
        found
    }

    /// Fetches if that is due; called every second or so.
    pub(super) async fn refresh_if_due(&self, now: Stamp) {
        let _flight = self.flight.lock().await;
        if now >= self.state.lock().next_refresh {
            self.refresh(now).await;
        }
    }

    /// How old the keys are, if there are any.
    pub(super) fn age(&self, now: Stamp) -> Option<Span> {
        self.state.lock().current.as_ref().map(|snapshot| now.since(snapshot.fetched))
    }

    /// Fetches for a caller, unless a fetch began just now, maybe the one it waited for. Whether it fetched.
    async fn ask(&self, now: Stamp) -> bool {
        let _flight = self.flight.lock().await;
        if self.state.lock().last_fetch.is_some_and(|last| now < last.plus(ASK_INTERVAL)) {
            return false;
        }
        self.refresh(now).await;
        true
    }

    /// INVARIANT (single flight): the caller holds `flight`.
    async fn refresh(&self, now: Stamp) {
        self.state.lock().last_fetch = Some(now);
        let loaded = self.origin.load(&self.issuer).await;
        let mut state = self.state.lock();
        match loaded {
            Ok((keys, age)) => {
                metrics::trust_loaded("issuer", "ok");
                if state.last_failed {
                    tracing::info!(issuer = self.issuer, "the issuer's keys are fetched again");
                }
                state.last_failed = false;
                state.next_refresh = self.origin.refresh_at(now, age, self.jitter);
                let (keys, usable_until) = (Arc::new(keys), now.plus(age));
                state.current = Some(Snapshot { keys, fetched: now, usable_until });
            }
            Err(error) => {
                metrics::trust_loaded("issuer", "failed");
                if !state.last_failed {
                    tracing::warn!(issuer = self.issuer, %error, "the issuer's keys cannot be fetched");
                }
                state.last_failed = true;
                state.next_refresh = now.plus(RETRY_INTERVAL);
            }
        }
    }
}

impl State {
    fn find(&self, kid: &str, now: Stamp) -> Result<Arc<KeySet>, JwksError> {
        let current = self.current.as_ref().filter(|snapshot| now < snapshot.usable_until);
        let keys = &current.ok_or(JwksError::Unavailable)?.keys;
        keys.get(kid).map(|_| Arc::clone(keys)).ok_or(JwksError::UnknownKid)
    }

    fn is_known_unknown(&self, kid: &str, now: Stamp) -> bool {
        self.unknown.get(kid).is_some_and(|until| now < *until)
    }

    fn remember_unknown(&mut self, kid: &str, now: Stamp) {
        self.unknown.retain(|_, until| now < *until);
        if self.unknown.len() < MAX_UNKNOWN_KIDS {
            self.unknown.insert(kid.to_owned(), now.plus(UNKNOWN_KID_AGE));
        }
    }
}

impl Origin {
    /// The keys, and how long they may be used.
    async fn load(&self, issuer: &str) -> Result<(KeySet, Span), RefreshError> {
        match self {
            Self::File(path) => Ok((KeySet::parse(&read(path).await?)?, MIN_AGE)),
            Self::Discovery(fetcher) => {
                let document = fetcher.get(&discovery_url(issuer)).await?;
                let document = parse_object(&document.body, MAX_SET_BYTES)?;
                let fetched = fetcher.get(jwks_uri(&document, issuer)?).await?;
                Ok((KeySet::parse(&fetched.body)?, usable_for(fetched.max_age)))
            }
        }
    }

    fn refresh_at(&self, fetched: Stamp, age: Span, jitter: u8) -> Stamp {
        match self {
            Self::File(_) => fetched.plus(FILE_INTERVAL),
            Self::Discovery(_) => refresh_at(fetched, age, jitter),
        }
    }
}

/// OpenID Connect Discovery 1.0 section 4.1: behind the issuer, whose last `/` is left out.
fn discovery_url(issuer: &str) -> String {
    let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
    format!("{issuer}/.well-known/openid-configuration")
}

/// OpenID Connect Discovery 1.0 section 4.3: the document is for exactly this issuer.
fn jwks_uri<'d>(document: &'d Object, issuer: &str) -> Result<&'d str, RefreshError> {
    if document.get("issuer").and_then(|value| value.as_str()) != Some(issuer) {
        return Err(RefreshError::OtherIssuer);
    }
    document.get("jwks_uri").and_then(|value| value.as_str()).ok_or(RefreshError::NoJwksUri)
}

/// For how long keys may be used whose server names this age.
fn usable_for(max_age: Option<Span>) -> Span {
    max_age.unwrap_or(DEFAULT_AGE).clamp(MIN_AGE, MAX_AGE)
}

/// When keys are fetched again: at 75 to 85 % of their age, so that brokers do not all come at once.
fn refresh_at(fetched: Stamp, age: Span, jitter: u8) -> Stamp {
    let part = 7_500 + u64::from(jitter) * 1_000 / 255;
    fetched.plus(Span::from_micros(age.micros() / 10_000 * part))
}

async fn read(path: &Path) -> Result<Vec<u8>, RefreshError> {
    let failed =
        |error: std::io::Error| RefreshError::File(path.display().to_string(), error.kind());
    let limit = u64::try_from(MAX_SET_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    // One byte more than allowed, for the parser to refuse.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).await.map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
