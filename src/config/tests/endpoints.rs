//! Bundle endpoints with mistakes: what stands where the sound file has a bundle in a file, and what is said.

#[rustfmt::skip]
pub(super) const MISTAKES: &[(&str, &str)] = &[
    (r#"bundle = { endpoint = "https://x" }"#,
     r#"x.toml:13: `trust.spiffe[0].bundle.profile` is missing; write `profile = "https_web"`"#),
    (r#"bundle = { path = "x" }"#,
     r#"x.toml:13: `trust.spiffe[0].bundle` has no source; write `file = "prod.example.bundle.json"`, `workload_api = "unix:///run/spire/agent.sock"` or `endpoint = "https://…"`
x.toml:13: `trust.spiffe[0].bundle.path` is not a field; known here: `file`, `workload_api`, `endpoint`, `max_age`"#),
    (r#"bundle = { file = "Cargo.toml", endpoint = "https://x" }"#,
     "x.toml:13: `trust.spiffe[0].bundle` has two sources; keep one of them"),
    (r#"bundle = { endpoint = "http://x", profile = "https_web" }"#,
     "x.toml:13: `trust.spiffe[0].bundle.endpoint` is `http://x`; write `https://` and a host, without user, query and fragment"),
    (r#"bundle = { endpoint = "https://me@x", profile = "https_web" }"#,
     "x.toml:13: `trust.spiffe[0].bundle.endpoint` is `https://…@x`; write `https://` and a host, without user, query and fragment"),
    (r#"bundle = { endpoint = "https://x", profile = "https" }"#,
     "x.toml:13: `trust.spiffe[0].bundle.profile` is `https`; write one of `https_web`, `https_spiffe`"),
    (r#"bundle = { endpoint = "https://x", profile = "https_web", max_age = "90d" }"#,
     "x.toml:13: `trust.spiffe[0].bundle.max_age` is `90d`; give `5m` to `7d`"),
    (r#"bundle = { endpoint = "https://x", profile = "https_web", endpoint_spiffe_id = "spiffe://prod.example/s" }"#,
     "x.toml:13: `trust.spiffe[0].bundle.endpoint_spiffe_id` is not a field; known here: `file`, `workload_api`, `endpoint`, `max_age`, `profile`, `in_cluster`, `danger_loopback`, `ca_file`"),
    (r#"bundle = { endpoint = "https://x", profile = "https_spiffe" }"#,
     r#"x.toml:13: `trust.spiffe[0].bundle.endpoint_spiffe_id` is missing; write `endpoint_spiffe_id = "spiffe://prod.example/spire/server"`"#),
    (r#"bundle = { endpoint = "https://x", profile = "https_spiffe", endpoint_spiffe_id = "spiffe://prod.example" }"#,
     "x.toml:13: `trust.spiffe[0].bundle.endpoint_spiffe_id` is `spiffe://prod.example`; a workload's SPIFFE ID has a path behind the trust domain"),
    (r#"bundle = { endpoint = "https://x", profile = "https_spiffe", endpoint_spiffe_id = "spiffe://prod.example/s" }"#,
     "x.toml:11: `trust.spiffe[0]` has an endpoint of its own trust domain, and nothing to know it by at first; add `bootstrap_file`, with a bundle of it"),
    (r#"bundle = { endpoint = "https://x", profile = "https_spiffe", endpoint_spiffe_id = "spiffe://infra.example/s" }"#,
     "x.toml:11: `trust.spiffe[0]` has an endpoint of `infra.example`, which no `[[trust.spiffe]]` names; add one, so that its server is known"),
    (r#"bundle = { endpoint = "https://x", profile = "https_spiffe", endpoint_spiffe_id = "spiffe://infra.example/s", bootstrap_file = "Cargo.toml" }"#,
     "x.toml:11: `trust.spiffe[0]` has an endpoint of `infra.example`, whose own entry vouches for it; remove `bootstrap_file`"),
    (r#"bundle = { endpoint = "https://x", profile = "https_spiffe", endpoint_spiffe_id = "spiffe://infra.example/s" }
[[trust.spiffe]]
trust_domain = "infra.example"
bundle = { endpoint = "https://y", profile = "https_spiffe", endpoint_spiffe_id = "spiffe://prod.example/s" }"#,
     "x.toml:11: `trust.spiffe[0]` has an endpoint of `infra.example`, which is known only by way of this one; give one of them a file"),
];
