//! What the broker asks of a store, and nothing of how it is done.
