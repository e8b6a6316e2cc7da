//! Credentials made from a verified caller, a permit and an active lease, and from nothing less.
