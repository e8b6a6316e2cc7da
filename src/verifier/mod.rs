//! The verifier library: it lets in who holds a living credential of the broker, and asks nobody at a request.
//!
//! ```text
//!  brokers ══ stream ══▶ Mirror ──▶ View (revocations, and how fresh) ─┐
//!          ── keys ───▶ Trust ─────────────────────────────────────────┼──▶ Checker ──▶ Admission, or Refused
//!  a request: token, certificate, proof, actions ──────────────────────┘
//! ```
//!
//! [`Verifier`] is the whole: it keeps the connections. [`Checker`], [`Mirror`] and [`Stream`] are its rules without I/O and
//! clock, for whoever brings both. Once the broker has answered FENCED to whoever ended a task, no check that begins lets in a
//! credential of that task, nor of one below; while the view is older than a credential's Δ, it is refused (DESIGN.md section 5).
//!
//! ```no_run
//! use leasehold::verifier::{Identity, Presented, Scheme, Settings, Verifier};
//!
//! # async fn serve(token: &str, thumbprint: [u8; 32]) -> Result<(), Box<dyn std::error::Error>> {
//! let identity = Identity {
//!     ca_file: "root.pem".into(),
//!     cert_file: "ledger.pem".into(),
//!     key_file: "ledger.key".into(),
//! };
//! let broker = "https://leasehold.example:7700";
//! let verifier = Verifier::start(Settings::new([broker], identity, "https://ledger.example"))?;
//! let shown = Presented {
//!     scheme: Scheme::Bearer,
//!     token,
//!     certificate: Some(thumbprint),
//!     proof: None,
//!     request: ("GET", "/entries"),
//!     actions: &["read"],
//! };
//! let admission = verifier.admit(&shown).await?;
//! // Work, and stop when `admission.revoked()` is done; drop it at the end.
//! # drop(admission);
//! # Ok(())
//! # }
//! ```

mod admission;
mod certificates;
mod challenge;
mod check;
mod connection;
mod credential;
mod handle;
mod known;
mod layer;
mod mirror;
mod nonces;
mod peer;
mod refused;
mod replays;
mod settings;
mod stream;
mod trust;
mod view;
mod wire;

pub use admission::Admission;
pub use certificates::{Acceptor, Connection, TaskCertificates, until_over};
pub use check::{Checker, Presented, Rules, Scheme};
pub use credential::Credential;
pub use handle::{StartError, Verifier};
pub use layer::{Guard, Guarded, GuardedBody};
pub use mirror::{MAX_ENTRIES, Mirror, NotTaken, OtherStore, TooMany};
pub use peer::PeerCertificate;
pub use refused::{Fault, Refused};
pub use settings::{Identity, Settings, SettingsError, WhenStale};
pub use stream::{Stream, StreamError};
pub use trust::{Trust, TrustError};
pub use view::View;
pub use wire::{NotUnderstood, Terms};

#[cfg(test)]
mod tests;
