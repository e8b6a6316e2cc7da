//! The broker as callers see it: gRPC and HTTP over real sockets and mutual TLS.

mod access;
mod bundles;
mod callers;
mod connections;
mod dpop;
mod feed;
mod flood;
mod frames;
mod http;
mod http2;
mod identities;
mod jwt_svids;
mod minted_jwt_svids;
mod outage;
mod ownership;
mod pages;
mod public;
mod revocation_lists;
mod scopes;
mod secrets;
mod sidecar;
mod site;
mod verifier;
mod webhooks;
mod wire;
mod workload_api;
