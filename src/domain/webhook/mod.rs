//! Webhooks, as rules: which events one is for, which broker delivers them, and when it is tried again.

mod interest;
mod retry;
mod share;

pub use interest::{EVENTS, Interest, name_of, stops_work};
pub use retry::pause;
pub use share::deliverer;
