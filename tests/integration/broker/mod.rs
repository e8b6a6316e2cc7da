//! The broker's promises, verb by verb, in one process and without sockets.

mod endings;
mod quarantines;
mod renewals;
mod scene;
mod stores;
