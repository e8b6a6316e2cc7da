//! Every integration test, in one binary. `tests/README.md` says what each of these modules proves.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test says what it expects by failing"
)]

mod broker;
mod contract;
mod demo;
mod dev;
mod examples;
mod fuzz;
mod leaked;
mod mistakes;
mod programs;
mod readme;
mod reference;
mod store;
mod supply_chain;
mod surfaces;
mod task_run;
mod tidy;
mod wycheproof;
