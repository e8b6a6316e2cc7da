//! The broker's promises, verb by verb, in one process and without sockets.

mod access;
mod clocks;
mod endings;
mod faults;
mod limits;
mod quarantines;
mod renewals;
mod replays;
mod round_trips;
mod scene;
mod stores;
mod sweeps;
