//! Leasehold: a just-in-time credential broker. **A credential lives exactly as long as its task.**
//!
//! Workloads prove what they are, ask for what one task needs, and get a short-lived token or certificate that is bound
//! to that task's execution path. When the task completes, changes or fails, every credential of it is dead.
//!
//! ```text
//!  main → cli → app                      app: the one place that names concrete implementations
//!  grpc, http → listen, broker → contracts (store, policy, identity, mint, keys), feed → domain
//!  store/{embedded,redis}, policy/grant, identity/{x509_svid,jwt_svid,oidc} → their own contract, jose, spiffe, domain
//!  verifier → clock, jose, spiffe, proto, domain
//!  sidecar → verifier, jose, proto, domain
//! ```
//!
//! Modules in reading order: [`domain`] holds the rules and nothing else; [`jose`] and [`spiffe`] are the two formats
//! that credentials come in; [`verifier`] is the library of whoever accepts them. The rest is the broker: `identity`,
//! `policy`, `store`, `keys` and `mint` are its contracts with their implementations; `feed` tells verifiers what is
//! revoked, and learns when it is dead everywhere; `webhooks` tells receivers what happened; `fetch` is the way out to other
//! servers, and `workload_api` the agent beside it, if there is one; `broker` has one verb a file; `sidecar` is the verifier for
//! whoever does not link it; `listen` is the door, `grpc` and `http` are the surfaces behind it; `config`, `telemetry`, `app` and `cli`
//! make a program of it.

pub mod domain;
pub mod jose;
pub mod proto;
pub mod spiffe;

#[cfg(feature = "verifier")]
pub mod clock;
#[cfg(feature = "verifier")]
pub mod verifier;

#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod broker;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod demo;
#[cfg(feature = "server")]
pub mod feed;
#[cfg(feature = "server")]
mod fetch;
#[cfg(feature = "server")]
pub mod grpc;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod identity;
#[cfg(feature = "server")]
pub mod keys;
#[cfg(feature = "server")]
pub mod listen;
#[cfg(feature = "server")]
pub mod mint;
#[cfg(feature = "server")]
pub mod playground;
#[cfg(feature = "server")]
pub mod policy;
#[cfg(feature = "server")]
pub mod sidecar;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(all(feature = "server", any(test, feature = "testing")))]
pub mod testing;
#[cfg(feature = "server")]
pub mod webhooks;
#[cfg(feature = "server")]
pub mod workload_api;
