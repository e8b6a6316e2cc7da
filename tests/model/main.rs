//! The fencing rules of DESIGN.md section 5 as a model, explored state by state.
//!
//! ```text
//!   ending broker ── Commit, RECORDED ──▶ store: revocation per partition, registry in partition 0
//!        │  FENCED when each record acked, or lapse(Δ) has passed        ▲ beat: record with acked
//!        │                                                               │ read: head, and what it saw
//!        └── looks at the registry                                     broker ── events, then answers ──▶ verifier
//! ```
//!
//! Read `rules` beside the design: each rule is a switch. `state` says what there is, `broker`, `verifier`, `ending` and
//! `time` what can happen, `protocol` what must hold, `scenario` which configurations are explored, `claims` what came
//! of it. A process that is slow or paused is one that others' actions and ticks overtake: every order is explored.
//!
//! What is left out, and why nothing is lost by it:
//!
//! - **One revocation.** Entries only move one way and none takes another back (section 4), and positions and
//!   acknowledgements are ordered. So each revocation keeps the promise or breaks it by itself.
//! - **Loss.** The revocation survives a failover, and reads that would not be confirmed are not made. That is claim 4 and
//!   section 6. Partition 0's new incarnation matters here because the registry starts empty in it.
//! - **Issue.** Whether something is issued after RECORDED is decided by the store's commit on its own records, atomically;
//!   nothing that a broker or a verifier believes goes into it. What was issued before is what verifiers are shown here, in
//!   every state: a property of one state is one of every check that begins in it.
//! - **Delays that only delay.** A read is answered by the server when it is sent, a keep-alive is sent when it is answered,
//!   a beat is confirmed and an acknowledgement arrives at once, RECORDED comes with the last commit, the registry is
//!   looked at when FENCED is answered. Each delay that is left out would make a view older or a promise later, and change
//!   nothing else. Delays that make something look younger than it is stay: reads that return late, answers and events
//!   that linger in their queue, beats that publish what was acknowledged. Where a scenario has quick reads, a read returns at
//!   once: one that returns late is no worse than one that is sent late, as long as rule 1 holds.
//! - **Beats and reads go separately**, though a counted read of partition 0 brings a beat with it. So rule 9 is tried by
//!   itself.
//! - **One watcher.** Only broker 0 removes records, and it sees each beat at once: nobody could remove one sooner.
//! - **A restarted verifier's old instance** is forgotten by brokers: it accepts nothing, and waiting for it only waits.
//!
//! There is no horizon: ages stop where they make no difference, so the states are finite, and all of them are visited.
//! Faults other than time are bounded by a number each.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "a test says what it expects by failing"
)]

mod broker;
mod claims;
mod clock;
mod ending;
mod protocol;
mod rules;
mod scenario;
mod state;
mod time;
mod verifier;
