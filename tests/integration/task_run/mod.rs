//! `leasehold task run`, `task join` and `task watch`, as programs against a broker that runs: what becomes of the command, of the task, and
//! of what the command was handed.

mod credentials;
mod endings;
pub mod play;
mod watches;
