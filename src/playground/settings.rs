//! The broker's configuration for a playground, as a person could have written it.

use super::issuer::{BROKER_AUDIENCE, JWKS_FILE, NAME, URL};
use super::{AUDIENCE, BROKER_TRUST_DOMAIN, Plan, PlaygroundStore, TRUST_DOMAIN};

/// The text of `leasehold.toml`. Paths are relative to its folder.
pub(super) fn text(plan: &Plan) -> String {
    let (grpc, http, port) = (plan.grpc, plan.http, plan.http.port());
    let store = match &plan.store {
        PlaygroundStore::Embedded => "{ kind = \"embedded\", path = \"data\" }".to_owned(),
        PlaygroundStore::Redis { url, .. } => {
            format!("{{ kind = \"redis\", url = {} }}", toml::Value::from(url.as_str()))
        }
    };
    format!(
        r#"# A playground of Leasehold, made by `leasehold dev` or `leasehold demo`. Nothing outside trusts it.

trust_domain = "{BROKER_TRUST_DOMAIN}"
base_url = "https://localhost:{port}"
store = {store}

[listen]
grpc = "{grpc}"
http = "{http}"
reflection = {reflection}

[tls]
cert_file = "broker.pem"
key_file = "broker.key"

[keys]
encryption_key_file = "keyring.key"

[tiers]
standard = {{ ttl = "5m", ceiling = "1h", freshness = "1s" }}
critical = {{ ttl = "60s", ceiling = "10m", freshness = "500ms", on_silence = "fail" }}

[log]
filter = "warn"

{trust_and_roles}"#,
        reflection = plan.grpc.ip().is_loopback(),
        trust_and_roles = trust_and_roles(),
    )
}

/// Whose word the broker takes, and what they may do.
fn trust_and_roles() -> String {
    format!(
        r#"# The workloads' certificates lead to this root.
[[trust.spiffe]]
trust_domain = "{TRUST_DOMAIN}"
bundle = {{ file = "root.pem" }}

# `leasehold dev token --subject …` mints tokens of this issuer.
[[trust.oidc]]
name = "{NAME}"
issuer = "{URL}"
audience = "{BROKER_AUDIENCE}"
jwks = {{ file = "{JWKS_FILE}" }}

[[roles]]
role = "orchestrator"
name = "ci"
match = "spiffe://{TRUST_DOMAIN}/orchestrator"

[[roles]]
role = "orchestrator"
name = "alice"
issuer = "{NAME}"
subject = "alice"

[[roles]]
role = "agent"
class = "summarizer"
owner = "docs"
tiers = ["standard", "critical"]
match = "spiffe://{TRUST_DOMAIN}/agents/summarizer/*"

[[roles]]
role = "agent"
class = "researcher"
owner = "docs"
tiers = ["standard", "critical"]
match = "spiffe://{TRUST_DOMAIN}/agents/researcher/*"

[[roles]]
role = "agent"
class = "reporter"
owner = "docs"
tiers = ["standard"]
issuer = "{NAME}"
subject = "reporter"

[[roles]]
role = "verifier"
audiences = ["{AUDIENCE}"]
match = "spiffe://{TRUST_DOMAIN}/api/documents"

[[roles]]
role = "operator"
match = "spiffe://{TRUST_DOMAIN}/people/operator"
"#
    )
}
