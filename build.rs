//! Compiles `proto/` without a protoc binary, and writes the descriptors that reflection serves.

use std::path::PathBuf;
use std::{env, fs, io};

use prost::Message;

const PROTOS: [&str; 5] = [
    "leasehold/v1/task_service.proto",
    "leasehold/v1/credential_service.proto",
    "leasehold/v1/verification_service.proto",
    "leasehold/v1/operator_service.proto",
    "leasehold/store/v1/records.proto",
];

/// Messages with a `debug_redact` field, which the generator does not heed: `src/proto.rs` has their `Debug`.
const HOLDS_TOKENS: [&str; 2] =
    [".leasehold.v1.Credential", ".leasehold.v1.IntrospectCredentialRequest"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"]).map_err(io::Error::other)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("leasehold.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".leasehold.store.v1")
        // Of a request's bytes a hash is taken, to know it again: they must not depend on a hash map's order.
        .btree_map(".leasehold.v1")
        .skip_debug(HOLDS_TOKENS)
        .compile_fds(descriptors)?;
    // Somebody else's contracts: not among the descriptors that reflection serves.
    let workload_api =
        protox::compile(["spiffe/workload_api.proto"], ["proto"]).map_err(io::Error::other)?;
    tonic_prost_build::configure()
        .btree_map(".")
        .skip_debug([".X509SVID", ".X509SVIDResponse"])
        .compile_fds(workload_api)?;
    let ext_authz = protox::compile(["envoy/service/auth/v3/external_auth.proto"], ["proto"]);
    tonic_prost_build::configure()
        .btree_map(".")
        .skip_debug([".envoy.service.auth.v3.AttributeContext.HttpRequest"])
        .compile_fds(ext_authz.map_err(io::Error::other)?)?;
    Ok(())
}
