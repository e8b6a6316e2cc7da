//! Strict JOSE: compact JWS, one algorithm per key, typed claims. For the broker and for verifiers.
