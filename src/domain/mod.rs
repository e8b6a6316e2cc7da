//! Pure rules: no I/O, no clock, no async. `now` is an argument.

pub mod certificate;
pub mod clamp;
pub mod decide;
pub mod event;
pub mod execution;
pub mod feed;
pub mod grant;
pub mod id;
pub mod lattice;
pub mod lease;
pub mod line;
pub mod path;
pub mod platform;
pub mod principal;
pub mod refusal;
pub mod role;
pub mod scope;
pub mod secret;
pub mod task;
pub mod tier;
pub mod time;
pub mod webhook;
