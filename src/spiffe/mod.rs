//! SPIFFE: ids, leaf rules, bundles. For the broker and for verifiers.
