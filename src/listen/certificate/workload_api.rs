//! The broker's certificate is an X.509-SVID of its own, from the Workload API, which renews it long before it expires.
//!
//! An agent that is away, or says that we are entitled to nothing any more, takes nothing back: the former certificate is
//! shown until it expires, and then by itself convinces nobody. Until then, whoever wants to end a task can reach us.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{ServerCertificate, not_taken_over, taken_over};
use crate::broker::seams::{Clock, Entropy};
use crate::domain::time::Stamp;
use crate::listen::tls::{ServerIdentity, TlsError};
use crate::spiffe::id::SpiffeId;
use crate::workload_api::svid::{OwnSvid, SvidError};
use crate::workload_api::{Following, News, WorkloadApi, X509Svids};

/// How long a starting broker waits for its first SVID: an agent that starts with it needs a few seconds.
const FIRST_SVID: Duration = Duration::from_secs(30);

/// Whose SVID is shown, and who gives it.
pub struct SvidSource {
    /// The agent.
    pub api: WorkloadApi,
    /// The one to show if the agent has several for us; `None`: the first, which is the default.
    pub spiffe_id: Option<SpiffeId>,
    /// What SVIDs are valid by.
    pub clock: Arc<dyn Clock>,
    /// For the waits between two attempts.
    pub entropy: Arc<dyn Entropy>,
}

/// There was no certificate to start with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no certificate of this broker from the Workload API at `{endpoint}`: {fault}")]
pub struct NoFirstSvid {
    /// Where it should have come from.
    pub endpoint: String,
    /// What was wrong last.
    pub fault: String,
}

/// What an agent says gives us nothing to show.
#[derive(Debug, thiserror::Error)]
enum Fault {
    /// Nothing is registered for this process.
    #[error("it gives this process no SVID; register the broker with it")]
    Nothing,
    /// It has no SVIDs of this kind.
    #[error("it has no X.509-SVIDs")]
    Unsupported,
    /// It does not answer.
    #[error("it does not answer: {0}")]
    Away(String),
    /// What it gives is no SVID for us.
    #[error(transparent)]
    Svid(#[from] SvidError),
    /// Certificate and key do not fit.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl SvidSource {
    /// Follows the agent until `stop`, and answers as soon as there is something to show.
    ///
    /// # Errors
    /// [`NoFirstSvid`] if there is nothing within half a minute.
    pub async fn follow(
        self,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Arc<ServerCertificate>, NoFirstSvid> {
        let Self { api, spiffe_id, clock, entropy } = self;
        let certificate = Arc::new(ServerCertificate::default());
        let endpoint = api.endpoint().to_string();
        let (last, mut faults) = watch::channel(Some("it has not answered yet".to_owned()));
        let following = Following {
            name: format!("X.509-SVIDs of {endpoint}"),
            open: Box::new(move || Box::pin(api.clone().x509_svids())),
            clock: Arc::clone(&clock),
            entropy,
        };
        let shown = Arc::clone(&certificate);
        let following = following.run(move |news| {
            let fault =
                identity(news, spiffe_id.as_ref(), clock.now()).map(|next| shown.renew(next)).err();
            let text = fault.as_ref().map(Fault::to_string);
            // INVARIANT (logs tell transitions): the same fault comes again with every answer.
            if let Some(fault @ (Fault::Svid(_) | Fault::Tls(_))) = fault
                && *last.borrow() != text
            {
                not_taken_over(&fault);
            }
            last.send_replace(text);
        });
        let stop = stop.clone();
        tasks.spawn(async move { stop.run_until_cancelled(following).await });
        if let Ok(Ok(_)) = timeout(FIRST_SVID, faults.wait_for(Option::is_none)).await {
            return Ok(certificate);
        }
        let fault = faults.borrow().clone().unwrap_or_default();
        Err(NoFirstSvid { endpoint, fault })
    }
}

fn identity(
    news: News<X509Svids>,
    wanted: Option<&SpiffeId>,
    now: Stamp,
) -> Result<ServerIdentity, Fault> {
    match news {
        News::State { state, asked: _ } => {
            let (chain, key) = OwnSvid::of(state, wanted, now)?.into_parts();
            Ok(ServerIdentity::from_der(chain, key)?)
        }
        News::Nothing => Err(Fault::Nothing),
        News::Unsupported => Err(Fault::Unsupported),
        News::Away(reason) => Err(Fault::Away(reason)),
    }
}

impl ServerCertificate {
    /// Shows an identity from now on, unless it is the one that is shown already.
    fn renew(&self, next: ServerIdentity) {
        let is_new = self.current.load().as_ref().is_none_or(|shown| shown.leaf() != next.leaf());
        if is_new {
            self.show(next);
            taken_over();
        }
    }
}

#[cfg(test)]
mod tests;
