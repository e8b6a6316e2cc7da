//! The end of a task, as three resource servers see it: one that trusts the published keys alone, one that introspects at every
//! request, one with the verifier library.
//!
//! While `complete` is on its way the same token is shown to the latter two again and again.

use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use tokio::time::Instant;

use super::acts::{ACCEPTED, Acts, answer, expect, failed};
use super::timeline::{Mishap, Seen};
use crate::broker::seams::{Clock as _, SystemClock};
use crate::proto::v1::Revocation;

/// What was seen of an ending, and when.
pub(super) struct Moment {
    /// Since the ending was called.
    pub(super) at: Duration,
    /// Its name.
    pub(super) step: &'static str,
    /// What was seen.
    pub(super) says: &'static str,
    /// A few words more.
    pub(super) note: String,
}

/// When a server refused for the first time.
struct Refusal {
    /// Since the ending was called.
    at: Duration,
    /// How many requests it let in before.
    accepted: u32,
}

impl Acts<'_> {
    /// Completes a task while its token is in use, and tells what was seen in the order of time.
    pub(super) async fn complete_in_use(
        &self,
        task_id: &str,
        token: &str,
    ) -> Result<Seen<Vec<Moment>>, Mishap> {
        let (called, called_at) = (Instant::now(), SystemClock::default().now());
        let fenced = OnceLock::new();
        let complete = async {
            let ended = self.complete(task_id).await;
            fenced.get_or_init(|| called.elapsed());
            ended
        };
        let (ended, introspecting, following) = tokio::join!(
            complete,
            self.until_refused("/documents", token, (called, &fenced)),
            self.until_refused("/followed/documents", token, (called, &fenced)),
        );
        let recorded = recorded_at(&ended?.value)?;
        let recorded = recorded.saturating_sub(Duration::from_micros(called_at.micros()));
        let fenced = fenced.get().copied().unwrap_or_default();
        let mut moments = vec![
            Moment {
                at: recorded,
                step: "recorded",
                says: "RECORDED: nothing more is issued for it",
                note: String::new(),
            },
            introspecting?.seen(
                "introspecting",
                "a server that introspects: its first 401",
                "a call to the broker each time",
            ),
            following?.seen(
                "following",
                "a server with the library: its first 401",
                "no call to anybody",
            ),
            Moment {
                at: fenced,
                step: "fenced",
                says: "FENCED: whoever follows accepts it no more",
                note: "`complete` is answered".to_owned(),
            },
        ];
        moments.sort_by_key(|moment| moment.at);
        Ok(Seen { value: moments, note: "while its token is in use".to_owned() })
    }

    /// Shows a token until it is refused, which it is by the time that the ending is answered.
    async fn until_refused(
        &self,
        path: &str,
        token: &str,
        (called, fenced): (Instant, &OnceLock<Duration>),
    ) -> Result<Refusal, Mishap> {
        let mut accepted = 0;
        loop {
            let is_fenced = fenced.get().is_some();
            let request = self.stage.summarizer.web.get(self.url(path)).bearer_auth(token);
            let (found, _) = answer(request).await?;
            if found.starts_with("401") {
                return Ok(Refusal { at: called.elapsed(), accepted });
            }
            let wanted = if is_fenced { "401" } else { ACCEPTED };
            expect(wanted, &found, wanted)?;
            accepted += 1;
        }
    }

    /// What a server sees that only checks signatures.
    pub(super) async fn call_unasked(&self, token: &str) -> Result<Seen<()>, Mishap> {
        let request = self.stage.summarizer.web.get(self.url("/unasked/documents"));
        let (found, document) = answer(request.bearer_auth(token)).await?;
        expect(ACCEPTED, &found, ACCEPTED)?;
        let until = document.get("accepted_until").and_then(Value::as_u64).unwrap_or_default();
        let left = until.saturating_sub(SystemClock::default().now().seconds());
        Ok(Seen { value: (), note: format!("for {left} s more, until it expires") })
    }
}

impl Refusal {
    fn seen(self, step: &'static str, says: &'static str, cost: &str) -> Moment {
        let Self { at, accepted } = self;
        Moment { at, step, says, note: format!("{accepted} times 200 before; {cost}") }
    }
}

fn recorded_at(revocation: &Revocation) -> Result<Duration, Mishap> {
    let at = revocation.recorded_at.ok_or_else(|| failed("the answer has no `recorded_at`"))?;
    let at = std::time::SystemTime::try_from(at).map_err(failed)?;
    at.duration_since(UNIX_EPOCH).map_err(failed)
}
