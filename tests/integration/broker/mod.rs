//! The broker's promises, verb by verb, in one process and without sockets.

mod access;
mod answers;
mod between;
mod clocks;
mod configurations;
mod dpop;
mod drops;
mod endings;
mod faults;
mod history;
mod lanes;
mod limits;
mod losses;
mod plain;
mod quarantine_races;
mod quarantines;
mod races;
mod renewals;
mod renewals_as_issue;
mod replays;
mod revocation_lists;
mod round_trips;
mod scene;
mod stores;
mod sweeps;
mod watched;
