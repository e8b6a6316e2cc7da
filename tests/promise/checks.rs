//! What must never be seen: an acceptance after FENCED, or past the bound. Each verifier is a server for tokens or one that asks for
//! client certificates; what it takes is checked by the library's whole [`Checker`], the rest by its view alone.
//!
//! [`Checker`]: leasehold::verifier::Checker

use leasehold::clock::Present;
use leasehold::domain::lattice::Facts;
use leasehold::jose::ClaimError;
use leasehold::jose::access_token::AccessTokenError;
use leasehold::spiffe::leaf::LeafError;
use leasehold::spiffe::task_certificate::TaskCertificateError;
use leasehold::verifier::{Admission, Presented, Refused, Scheme};

use super::ending::{Credential, Shown};
use super::issuing;
use super::verifier::{Takes, Verifier};
use super::world::{Event, Off, World};

/// Checks of one verifier at an instant, and every how many microseconds.
const CHECKS: usize = 12;
const CHECK_EVERY: u64 = 6_000;
/// Connections that a server keeps open at most.
const CONNECTIONS: usize = 64;

/// By what something is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The facts of the credential by the view, as `Checker::judge` does it.
    View,
    /// `Checker::check`.
    Token,
    /// `Checker::check_certificate`.
    Certificate,
}

/// A client's certificate was accepted, and its connection is open.
pub struct Open {
    credential: usize,
    admission: Admission,
}

impl World {
    pub fn checks(&mut self, v: usize) {
        for n in 0..CHECKS {
            let (all, ended) = (self.credentials.len(), self.endings.len());
            if all == 0 {
                break;
            }
            let c = match n % 2 {
                0 => all - 1 - self.chance.below(all.min(60)),
                _ if ended == 0 => continue,
                _ => {
                    let e = ended - 1 - self.chance.below(ended.min(20));
                    let Some(c) = self.killed(e) else { continue };
                    c
                }
            };
            self.check(v, c);
        }
        self.again(CHECK_EVERY, Event::Checks(v));
    }

    /// A check by what the verifier knows now.
    // INVARIANT: zero acceptances after FENCED, and after the bound.
    pub fn check(&mut self, v: usize, c: usize) {
        let (now, off) = (self.now, self.off);
        let (verifier, credential) = (&mut self.verifiers[v], &mut self.credentials[c]);
        if verifier.paused_until > now {
            return;
        }
        let present = verifier.clocks.present(now);
        let by = match (&credential.shown, verifier.takes) {
            (Shown::Token { .. }, Takes::Tokens) => By::Token,
            (Shown::Certificate(_), Takes::Certificates) => By::Certificate,
            _ => By::View,
        };
        let is_first = by != By::View && !verifier.seen.contains(&c);
        let accepts = match (off, by) {
            (Off::View, _) => verifier.by_lifetime(c, credential, present),
            (_, By::View) => by_view(verifier, credential, present),
            _ => verifier.whole(c, credential, present),
        };
        if is_first && off != Off::View {
            assert_eq!(accepts, by_view(verifier, credential, present), "by either the same");
        }
        let tally = self.report.tallies.entry(by).or_default();
        tally.checks += 1;
        tally.first_times += u64::from(is_first);
        if !accepts {
            tally.refused_after += u64::from(credential.fenced.is_some());
            return;
        }
        tally.accepted += 1;
        credential.was_accepted |= by != By::View;
        let (fenced, bound) = (credential.fenced, credential.bound);
        if let Some(at) = fenced {
            let what = format!("verifier {v} accepts credential {c}, fenced at {at} us");
            self.violation(Some(by), what);
        } else if bound.is_some_and(|bound| now >= bound) {
            let what = format!("verifier {v} accepts credential {c}, bound at {bound:?} us");
            self.violation(Some(by), what);
        }
    }

    /// What an ending kills was FENCED just now: connections that were let in on it are over, as `verifier::until_over` has it.
    // INVARIANT: no connection lives on that was let in by a certificate that is FENCED.
    pub fn hang_up(&mut self, e: usize) {
        let now = self.now;
        for v in 0..self.verifiers.len() {
            let verifier = &mut self.verifiers[v];
            if verifier.paused_until > now {
                continue;
            }
            let present = verifier.clocks.present(now);
            let killed = &self.endings[e].killed;
            let dead = verifier.open.extract_if(.., |open| killed.contains(&open.credential));
            for open in dead.collect::<Vec<_>>() {
                let credential = &self.credentials[open.credential];
                let view = self.verifiers[v].mirror.view();
                let lives = self.verifiers[v].mirror.now(&view, present) < credential.expires;
                let goes_on = view.is_within(present, credential.delta)
                    && lives
                    && !open.admission.is_revoked();
                drop(view);
                self.report.hung_up += 1;
                if goes_on {
                    let what = format!("verifier {v} lets a connection of it go on, at {now} us");
                    self.violation(Some(By::Certificate), what);
                }
            }
        }
    }
}

impl Verifier {
    /// By the whole checker; whether it accepts.
    fn whole(&mut self, c: usize, credential: &Credential, present: Present) -> bool {
        let checked = match &credential.shown {
            Shown::Token { text, certificate } => {
                let shown = Presented {
                    scheme: Scheme::Bearer,
                    token: text,
                    certificate: *certificate,
                    proof: None,
                    request: ("GET", "/entries"),
                    actions: &["read"],
                };
                self.checker.check(&shown, present)
            }
            Shown::Certificate(chain) => {
                let (leaf, above) = chain.split_first().unwrap();
                let above: Vec<_> = above.iter().map(Vec::as_slice).collect();
                self.checker.check_certificate((leaf, &above), present)
            }
        };
        match checked {
            Ok(admission) => {
                self.seen.insert(c);
                if self.takes == Takes::Certificates {
                    self.open.truncate(CONNECTIONS - 1);
                    self.open.insert(0, Open { credential: c, admission });
                }
                true
            }
            Err(Refused::Dead(_) | Refused::Stale(_)) => {
                self.seen.insert(c);
                false
            }
            Err(
                Refused::Token(AccessTokenError::Claim(ClaimError::Expired))
                | Refused::Certificate(TaskCertificateError::Leaf(LeafError::Expired)),
            ) => false,
            Err(other) => panic!("a credential of the broker is refused for what it is: {other}"),
        }
    }

    /// By plain lifetime, as a server that trusts the broker's keys and asks nobody.
    fn by_lifetime(&mut self, c: usize, credential: &Credential, present: Present) -> bool {
        let now = self.mirror.now(&self.mirror.view(), present);
        let is_known = !self.seen.insert(c);
        now < credential.expires && (is_known || issuing::is_ours(&credential.shown, now))
    }
}

/// What the view alone says, as `Checker::judge` asks it.
fn by_view(verifier: &Verifier, credential: &Credential, present: Present) -> bool {
    let facts = Facts {
        path: &credential.path,
        lease: credential.lease,
        origin: credential.origin,
        reach: &credential.reach,
    };
    let view = verifier.mirror.view();
    verifier.mirror.now(&view, present) < credential.expires
        && view.is_within(present, credential.delta)
        && view.judge(&facts).is_ok()
}
