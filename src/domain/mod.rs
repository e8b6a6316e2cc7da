//! Pure rules: no I/O, no clock, no async. `now` is an argument.

pub mod id;
pub mod principal;
pub mod secret;
pub mod time;
