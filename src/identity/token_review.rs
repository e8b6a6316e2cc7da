//! Asking a cluster whether a pod's token still counts (Kubernetes `authentication.k8s.io/v1`, TokenReview).
//!
//! A signature does not tell that the pod, its service account or its node is gone since; the API server looks. It is
//! asked only about tokens that are sound in every other way, once for all who show the same one, and believed for
//! [`ANSWER_AGE`]: so long at most is a pod that was deleted let in.
//!
//! ```text
//!  answer younger than ANSWER_AGE ──────────────────────────────────────▶ that answer
//!  none: POST …/tokenreviews ┬ authenticated, for us, same account and pod ▶ yes, kept
//!                            ├ a clear no, or somebody else ──────────────▶ refused, kept
//!                            └ anything else: error, time-out, nonsense ──▶ refused for now, not kept
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use moka::sync::Cache;
use reqwest::header::{HeaderValue, InvalidHeaderValue};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;

use crate::domain::secret::Secret;
use crate::domain::time::{Span, Stamp};
use crate::fetch::{FetchError, Fetcher, Reach, check_url};
use crate::jose::MAX_SET_BYTES;
use crate::jose::json::{JsonError, Object, parse_object};

/// An answer is believed for so long after its question was sent.
pub(super) const ANSWER_AGE: Span = Span::from_seconds(10);
/// Tokens whose answers are remembered.
const MAX_ANSWERS: u64 = 10_000;
/// Questions to one cluster at a time.
const MAX_ASKING: usize = 16;
/// Callers that wait for their question's turn; each holds a request open.
const MAX_WAITING: usize = 256;
/// Bytes of the broker's own token.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;
const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// Where a cluster's API server is, and who asks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenReviewConfig {
    /// `https://host[:port]`.
    pub api_server: String,
    /// The broker's own token there, which may `create` `tokenreviews`. Read for every question: it rotates.
    pub token_file: PathBuf,
    /// Roots for the API server's certificate, in PEM; without one this machine's.
    pub ca_file: Option<PathBuf>,
}

/// A cluster does not confirm a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// The cluster says that it is nobody's (any more).
    #[error(
        "the cluster does not take the token: its pod, service account or node is gone, or it is revoked; a new pod gets \
         a new one"
    )]
    NotAuthenticated,
    /// The cluster did not check the audience, or another one.
    #[error("the cluster does not confirm that the token is for this broker")]
    Audience,
    /// The cluster takes it for somebody else's: what it names differs from the token's claim.
    #[error("the cluster does not agree with the token's claim `{0}`")]
    Claim(&'static str),
    /// The cluster cannot be asked, or its answer is none. Try again.
    #[error("the cluster cannot be asked about the token at the moment; try again")]
    Unavailable,
}

/// Why there is no answer; for the log.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(
        "the API server answers with status {0}: give the broker's service account the ClusterRole `system:auth-delegator`"
    )]
    Forbidden(u16),
    #[error("`{0}` cannot be read: {1}")]
    OwnToken(String, std::io::ErrorKind),
    #[error("the own token is no header value: {0}")]
    Header(#[from] InvalidHeaderValue),
    #[error("the answer is malformed: {0}")]
    Json(#[from] JsonError),
    #[error("the answer is no TokenReview: `{0}` is missing or has another type")]
    Shape(&'static str),
}

/// Asks one cluster.
#[derive(Debug)]
pub(super) struct TokenReviewer {
    url: String,
    audience: String,
    token_file: PathBuf,
    fetcher: Fetcher,
    /// By SHA-256 of the token.
    answers: Cache<[u8; 32], Arc<Pending>>,
    asking: Semaphore,
    waiting: Semaphore,
    last_failed: AtomicBool,
}

/// Until when an answer is believed, and the answer.
type Known = Option<(Stamp, Result<(), ReviewError>)>;
/// Held by whoever asks; the others wait for it and look again.
type Pending = tokio::sync::Mutex<Known>;

impl TokenReviewer {
    /// A reviewer for tokens of an audience. The API server may lie at a private address, or on this machine for `dev`.
    pub(super) fn new(
        config: &TokenReviewConfig,
        audience: &str,
        danger_loopback: bool,
    ) -> Result<Self, FetchError> {
        let reach = if danger_loopback { Reach::Loopback } else { Reach::InCluster };
        let url = format!("{}{PATH}", config.api_server.trim_end_matches('/'));
        check_url(&url, reach)?;
        Ok(Self {
            url,
            audience: audience.to_owned(),
            token_file: config.token_file.clone(),
            fetcher: Fetcher::new(reach, config.ca_file.as_deref())?,
            answers: Cache::new(MAX_ANSWERS),
            asking: Semaphore::new(MAX_ASKING),
            waiting: Semaphore::new(MAX_WAITING),
            last_failed: AtomicBool::new(false),
        })
    }

    /// Whether the cluster takes the token for the one that its verified claims tell of, and until when that is believed: not
    /// past the token's expiry.
    pub(super) async fn confirm(
        &self,
        token: &str,
        claims: &BTreeMap<String, String>,
        expires: Stamp,
        now: Stamp,
    ) -> Result<Stamp, ReviewError> {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let pending = self.answers.get_with(hash, Arc::default);
        let fresh = |known: &Known| known.filter(|(until, _)| now < *until);
        if let Some((until, answer)) = pending.try_lock().ok().and_then(|known| fresh(&known)) {
            return answer.map(|()| until);
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| ReviewError::Unavailable)?;
        let mut known = pending.lock().await;
        if let Some((until, answer)) = fresh(&known) {
            return answer.map(|()| until);
        }
        let _asking = self.asking.acquire().await.map_err(|_| ReviewError::Unavailable)?;
        let answer = match self.ask(token).await {
            Ok(status) => self.judge(&status, claims),
            Err(error) => Err(self.failed(&error)),
        };
        if answer == Err(ReviewError::Unavailable) {
            return Err(ReviewError::Unavailable);
        }
        self.answered();
        let until = now.plus(ANSWER_AGE).min(expires);
        *known = Some((until, answer));
        answer.map(|()| until)
    }

    /// The `status` of the API server's answer.
    async fn ask(&self, token: &str) -> Result<Object, AskError> {
        let own = read(&self.token_file).await?;
        let bearer = format!("Bearer {}", own.expose_text().trim());
        let mut bearer = HeaderValue::try_from(bearer)?;
        bearer.set_sensitive(true);
        let question = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self.audience]},
        });
        let answer = match self.fetcher.post(&self.url, bearer, question.to_string()).await {
            Err(FetchError::Status(_, status @ (401 | 403))) => {
                return Err(AskError::Forbidden(status));
            }
            answer => answer?,
        };
        let mut answer = parse_object(&answer.body, MAX_SET_BYTES)?;
        if answer.get("kind").and_then(Value::as_str) != Some("TokenReview") {
            return Err(AskError::Shape("kind"));
        }
        match answer.remove("status") {
            Some(Value::Object(status)) => Ok(status),
            _ => Err(AskError::Shape("status")),
        }
    }

    /// The rules of a yes. `authenticated` is left out of the answer where it is false.
    fn judge(&self, status: &Object, claims: &BTreeMap<String, String>) -> Result<(), ReviewError> {
        match status.get("authenticated") {
            Some(Value::Bool(true)) => {}
            None | Some(Value::Bool(false)) => return Err(ReviewError::NotAuthenticated),
            Some(_) => return Err(self.failed(&AskError::Shape("status.authenticated"))),
        }
        // An API server that knows no audiences leaves them out, and has checked its own.
        let audiences = status.get("audiences").and_then(Value::as_array);
        if !audiences.is_some_and(|all| all.contains(&json!(self.audience))) {
            return Err(ReviewError::Audience);
        }
        let user = status.get("user").unwrap_or(&Value::Null);
        let pod = user.get("extra").and_then(|e| e.get("authentication.kubernetes.io/pod-uid"));
        let pod = pod.and_then(Value::as_array).and_then(|pods| match pods.as_slice() {
            [pod] => pod.as_str(),
            _ => None,
        });
        let (username, account) = (user.get("username"), user.get("uid"));
        for (claim, found) in [
            ("sub", username.and_then(Value::as_str)),
            ("kubernetes.io/serviceaccount/uid", account.and_then(Value::as_str)),
            ("kubernetes.io/pod/uid", pod),
        ] {
            if found.is_none() || found != claims.get(claim).map(String::as_str) {
                return Err(ReviewError::Claim(claim));
            }
        }
        Ok(())
    }

    fn failed(&self, error: &AskError) -> ReviewError {
        if !self.last_failed.swap(true, Ordering::Relaxed) {
            tracing::warn!(url = self.url, %error, "the cluster cannot be asked about its tokens");
        }
        ReviewError::Unavailable
    }

    fn answered(&self) {
        if self.last_failed.swap(false, Ordering::Relaxed) {
            tracing::info!(url = self.url, "the cluster answers about its tokens again");
        }
    }
}

async fn read(path: &Path) -> Result<Secret, AskError> {
    let failed =
        |error: std::io::Error| AskError::OwnToken(path.display().to_string(), error.kind());
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    file.take(MAX_TOKEN_BYTES).read_to_end(&mut bytes).await.map_err(failed)?;
    Ok(Secret::new(bytes))
}

#[cfg(test)]
mod tests;
