//! The broker's own keys: parsed once, in memory; at rest only sealed.
