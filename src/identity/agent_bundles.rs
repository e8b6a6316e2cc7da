//! Trust bundles from an agent's Workload API.
//!
//! ```text
//!  roots  ── X.509 stream ──┐
//!                           ├── both halves of a domain ──▶ TrustStore
//!  keys   ── JWT stream ────┘
//! ```
//!
//! Every message is the whole state: a domain that it does not name has nothing any more. So has every domain when the agent
//! says that we are entitled to nothing. Of what it names, the configured domains are taken and no other. An agent that is away
//! takes nothing back: the bundles grow old.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::trust_store::{PutError, TrustStore};
use crate::broker::seams::{Clock, Entropy};
use crate::domain::time::Stamp;
use crate::spiffe::authority::{Authority, AuthorityError};
use crate::spiffe::bundle::{Bundle, BundleError, MAX_KEYS};
use crate::spiffe::concatenated::{ConcatenatedError, certificates};
use crate::spiffe::id::TrustDomain;
use crate::telemetry::metrics;
use crate::workload_api::{Following, News, WorkloadApi};

/// An agent, and the trust domains whose bundles it tells.
pub struct AgentBundles {
    /// The agent.
    pub api: WorkloadApi,
    /// Those that the configuration binds to it.
    pub domains: Vec<TrustDomain>,
    /// Who takes the bundles.
    pub store: Arc<TrustStore>,
    /// What their age is measured by.
    pub clock: Arc<dyn Clock>,
    /// For the waits between two attempts.
    pub entropy: Arc<dyn Entropy>,
}

/// One half of a domain's bundle cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum HalfError {
    #[error("its roots: {0}")]
    Certificates(#[from] ConcatenatedError),
    #[error("root {index}: {fault}")]
    Authority { index: usize, fault: AuthorityError },
    #[error("its JWT keys: {0}")]
    JwtKeys(#[from] BundleError),
    #[error(transparent)]
    Put(#[from] PutError),
}

#[derive(Default)]
struct Halves {
    x509: Half,
    jwt: Half,
}

#[derive(Default)]
struct Half {
    /// Of each domain, what the agent last told so that it could be read, and when.
    good: BTreeMap<TrustDomain, (Bundle, Stamp)>,
    /// Of each domain, what was last found wrong, which is not said again.
    faults: BTreeMap<TrustDomain, HalfError>,
}

impl AgentBundles {
    /// Follows the agent for as long as it is polled.
    pub async fn follow(self) {
        let (halves, endpoint) = (Mutex::new(Halves::default()), self.api.endpoint().to_string());
        let (x509, jwt) = (self.api.clone(), self.api.clone());
        let x509 = Following {
            name: format!("X.509 bundles of {endpoint}"),
            open: Box::new(move || Box::pin(x509.clone().x509_bundles())),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
        };
        let jwt = Following {
            name: format!("JWT bundles of {endpoint}"),
            open: Box::new(move || Box::pin(jwt.clone().jwt_bundles())),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
        };
        let x509 = x509.run(|news| {
            let news = news.map(|answer| answer.bundles);
            self.hear(&mut halves.lock(), |halves| &mut halves.x509, roots, news);
        });
        let jwt = jwt.run(|news| {
            let news = news.map(|answer| answer.bundles);
            self.hear(&mut halves.lock(), |halves| &mut halves.jwt, keys, news);
        });
        tokio::join!(x509, jwt);
    }

    fn hear(
        &self,
        halves: &mut Halves,
        half: fn(&mut Halves) -> &mut Half,
        read: fn(&[u8]) -> Result<Bundle, HalfError>,
        news: News<BTreeMap<String, Vec<u8>>>,
    ) {
        let (state, asked) = match news {
            News::State { state, asked } => (state, asked),
            News::Nothing | News::Unsupported => (BTreeMap::new(), self.clock.now()),
            News::Away(_) => return,
        };
        for domain in &self.domains {
            let told = state.get(&format!("spiffe://{domain}"));
            let taken = told.map_or(Ok(Bundle::default()), |bytes| read(bytes));
            let taken = taken.and_then(|bundle| {
                half(halves).good.insert(domain.clone(), (bundle, asked));
                self.put(halves, domain)
            });
            let faults = &mut half(halves).faults;
            match taken {
                Ok(()) => drop(faults.remove(domain)),
                Err(fault) if faults.get(domain) == Some(&fault) => {}
                Err(fault) => {
                    metrics::trust_loaded("bundle", "failed");
                    tracing::error!(
                        trust_domain = %domain, agent = %self.api.endpoint(), %fault,
                        "trust bundle not taken over, the previous one stays"
                    );
                    faults.insert(domain.clone(), fault);
                }
            }
        }
    }

    /// Both halves together, as old as the older one.
    fn put(&self, halves: &Halves, domain: &TrustDomain) -> Result<(), HalfError> {
        let (Some((x509, x509_asked)), Some((jwt, jwt_asked))) =
            (halves.x509.good.get(domain), halves.jwt.good.get(domain))
        else {
            return Ok(());
        };
        let bundle = x509.clone().with_jwt_keys(jwt.jwt_keys().to_vec());
        self.store.put(domain, bundle, *x509_asked.min(jwt_asked))?;
        Ok(())
    }
}

fn roots(der: &[u8]) -> Result<Bundle, HalfError> {
    let mut roots = Vec::new();
    for (index, certificate) in certificates(der, MAX_KEYS)?.into_iter().enumerate() {
        let root = Authority::check(certificate);
        roots.push(root.map_err(|fault| HalfError::Authority { index, fault })?);
    }
    Ok(Bundle::of_authorities(roots))
}

fn keys(document: &[u8]) -> Result<Bundle, HalfError> {
    Ok(Bundle::default().with_jwk_set(document)?)
}

#[cfg(test)]
mod tests;
