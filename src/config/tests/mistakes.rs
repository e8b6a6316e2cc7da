//! Mistakes and doubtful things: what stands in the sound file, what stands there instead, what is said.

/// Each is refused.
#[rustfmt::skip]
pub(super) const MISTAKES: &[(&str, &str, &str)] = &[
    ("[listen]", "[listen",
     "x.toml:6: is not TOML: unclosed table, expected `]`"),
    ("[listen]", r#"[listen]
grpc = "127.0.0.1:1""#,
     "x.toml:8: is not TOML: duplicate key"),
    (r#"trust_domain = "own.example"
"#, "",
     r#"x.toml:1: `trust_domain` is missing; write `trust_domain = "leasehold.example"`"#),
    ("base_url", "base_ulr",
     r#"x.toml:1: `base_url` is missing; write `base_url = "https://leasehold.example:7701"`
x.toml:2: `base_ulr` is not a field; did you mean `base_url`?"#),
    ("[listen]", "bogus = 1\n[listen]",
     "x.toml:6: `bogus` is not a field; known here: `trust_domain`, `base_url`, `store`, `listen`, `tls`, `tiers`, `trust`, `roles`, `dpop`, `crl`, `keys`, `feed`, `webhooks`, `limits`, `log`"),
    (r#"ttl = "5m""#, r#"ttl = "5m"
tll = "5m""#,
     "x.toml:10: `tiers.standard.tll` is not a field; did you mean `ttl`?"),
    (r#"ttl = "5m""#, r#"ttl = "5m"
approval = "none""#,
     "x.toml:10: `tiers.standard.approval` is not a field; known here: `ttl`, `ceiling`, `min_ttl`, `freshness`, `proof`, `on_silence`"),
    (r#"trust_domain = "own.example""#, r#"trust_domain = """#,
     "x.toml:1: `trust_domain` is empty; write something"),
    (r#"store = { kind = "embedded", path = "data" }"#, r#"store = "embedded""#,
     "x.toml:3: `store` is text; write a table"),
    (r#"store = { kind = "embedded", path = "data" }"#, r#"store = { path = "data" }"#,
     r#"x.toml:3: `store.kind` is missing; write `kind = "embedded"`"#),
    (r#"store = { kind = "embedded", path = "data" }"#, r#"store = { kind = "postgres", url = "x" }"#,
     "x.toml:3: `store.kind` is `postgres`; write one of `embedded`, `redis`"),
    (r#"store = { kind = "embedded", path = "data" }"#, r#"store = { kind = "embedded" }"#,
     r#"x.toml:3: `store.path` is missing; write `path = "data"`"#),
    (r#"store = { kind = "embedded", path = "data" }"#, r#"store = { kind = "embedded", path = "data", url = "x" }"#,
     "x.toml:3: `store.url` is not a field; known here: `kind`, `path`"),
    (r#"store = { kind = "embedded", path = "data" }"#, r#"store = { kind = "redis", path = "data" }"#,
     r#"x.toml:3: `store.url` is missing; write `url = "rediss://redis.example:6379"`
x.toml:3: `store.path` is not a field; known here: `kind`, `url`, `copies`, `ca_file`, `cert_file`, `key_file`, `username`, `password_file`, `password_env`, `response_timeout`"#),
    (r#"store = { kind = "embedded", path = "data" }"#, r#"store = { kind = "redis", url = "redis://r.example:6379" }"#,
     "x.toml:3: `store.url` is without TLS to another machine; write `rediss://`"),
    (r#"store = { kind = "embedded", path = "data" }"#, r#"store = { kind = "redis", url = "rediss://:hunter2@r.example" }"#,
     "x.toml:3: `store.url` holds a user or password; use `username`, and `password_file` or `password_env`"),
    (r#"store = { kind = "embedded", path = "data" }"#, r#"store = { kind = "redis", url = "https://r.example" }"#,
     "x.toml:3: `store.url` is no address of a Redis server; write `rediss://` and a host"),
    (r#"store = { kind = "embedded", path = "data" }"#, r#"store = { kind = "redis", url = "redis://127.0.0.1", ca_file = "Cargo.toml" }"#,
     "x.toml:3: `store.url` is without TLS, and certificates are given; write `rediss://`"),
    (r#"store = { kind = "embedded", path = "data" }"#, r#"store = { kind = "redis", url = "rediss://r.example", copies = 3 }"#,
     "x.toml:3: `store.copies` is 3; this version writes to one server and waits for no replica, so write 1"),
    (r#"store = { kind = "embedded", path = "data" }"#, r#"store = { kind = "redis", url = "rediss://r.example", username = "leasehold" }"#,
     "x.toml:3: `store.username` has no password; add `password_file` or `password_env`"),
    (r#"store = { kind = "embedded", path = "data" }"#, r#"store = { kind = "redis", url = "rediss://r.example", password_file = "Cargo.toml", password_env = "P" }"#,
     "x.toml:3: `store.password_env` stands beside `password_file`; keep one of them"),
    (r#"store = { kind = "embedded", path = "data" }"#, r#"store = { kind = "redis", url = "rediss://r.example", cert_file = "Cargo.toml" }"#,
     "x.toml:3: `store.cert_file` is without its `key_file`; give both"),
    (r#"store = { kind = "embedded", path = "data" }"#, r#"store = { kind = "redis", url = "rediss://r.example", response_timeout = "1ms" }"#,
     "x.toml:3: `store.response_timeout` is `1ms`; give `50ms` to `30s`"),
    (r#"store = { kind = "embedded", path = "data" }"#, r#"store = { kind = "redis", url = "redis://localhost", key_file = "Cargo.toml" }"#,
     "x.toml:3: `store.key_file` is without its `cert_file`; give both"),
    (r#"grpc = "127.0.0.1:7700""#, r#"grpc = "localhost:7700""#,
     "x.toml:7: `listen.grpc` is `localhost:7700`; write an IP address and a port, like `127.0.0.1:7700` or `[::]:7700`"),
    (r#"grpc = "127.0.0.1:7700""#, "grpc = 7700",
     "x.toml:7: `listen.grpc` is an integer; write text in quotes"),
    (r#"grpc = "127.0.0.1:7700""#, r#"grpc = "127.0.0.1:7701""#,
     "x.toml:6: `listen` has one address for `grpc` and `http`; give each its own port"),
    (r#"grpc = "127.0.0.1:7700""#, r#"grpc = "0.0.0.0:7700"
reflection = true"#,
     "x.toml:8: `listen.reflection` is on, and others than this machine reach `grpc`; listen on 127.0.0.1 or turn it off"),
    (r#"grpc = "127.0.0.1:7700""#, r#"grpc = "127.0.0.1:7700"
reflection = "no""#,
     "x.toml:8: `listen.reflection` is text; write `true` or `false`"),
    (r#"tls = { cert_file = "Cargo.toml", key_file = "Cargo.toml" }
"#, "",
     r#"x.toml:1: `tls` is missing; write `tls = { cert_file = "tls/broker.pem", key_file = "tls/broker.key" }`"#),
    (r#"tls = { cert_file = "Cargo.toml", key_file = "Cargo.toml" }"#, r#"tls = { cert_file = "Cargo.toml" }"#,
     r#"x.toml:4: `tls.key_file` is missing; write `key_file = "tls/broker.key"`"#),
    (r#"keys = { encryption_key_env = "KEY" }"#, "keys = {}",
     r#"x.toml:5: `keys` has no key to seal the keyring with; write `encryption_key_file = "keyring.key"` or `encryption_key_env = "LEASEHOLD_KEY"`"#),
    (r#"keys = { encryption_key_env = "KEY" }"#, r#"keys = { encryption_key_env = "KEY", encryption_key_file = "Cargo.toml" }"#,
     "x.toml:5: `keys.encryption_key_env` stands beside `encryption_key_file`; keep one of them"),
    (r#"keys = { encryption_key_env = "KEY" }"#, r#"keys = { encryption_key_env = "KEY", ca = { root_cert_file = "Cargo.toml" } }"#,
     r#"x.toml:5: `keys.ca.intermediate_cert_file` is missing; write `intermediate_cert_file = "ca/intermediate.pem"`
x.toml:5: `keys.ca.intermediate_key_file` is missing; write `intermediate_key_file = "ca/intermediate.key"`"#),
    (r#"keys = { encryption_key_env = "KEY" }"#, r#"keys = { encryption_key_env = "KEY", certificate_extension_oid = "1.3.06" }"#,
     "x.toml:5: `keys.certificate_extension_oid` is `1.3.06`; write dotted numbers, like `1.3.6.1.4.1.32473.1`"),
    (r#"keys = { encryption_key_env = "KEY" }"#, r#"keys = { encryption_key_env = "KEY", certificate_extension_oid = "3.1.1" }"#,
     "x.toml:5: `keys.certificate_extension_oid` is `3.1.1`; write dotted numbers, like `1.3.6.1.4.1.32473.1`"),
    (r#"[tiers.standard]
ttl = "5m"
ceiling = "1h"
"#, "[tiers]\n",
     r#"x.toml:8: `tiers` has no tier; add one, like `standard = { ttl = "5m", ceiling = "1h" }`"#),
    ("[tiers.standard]", "[tiers.Standard]",
     "x.toml:8: `tiers.Standard` is `Standard`; a name has 1 to 63 characters of `a-z`, `0-9` and `-`"),
    ("[tiers.standard]", "[tiers.all]",
     "x.toml:8: `tiers.all` is `all`, which is reserved; choose another name"),
    (r#"ttl = "5m"
"#, "",
     r#"x.toml:8: `tiers.standard.ttl` is missing; write `ttl = "5m"`"#),
    (r#"ttl = "5m""#, r#"ttl = "0s""#,
     "x.toml:9: `tiers.standard.ttl` is `0s`; give `1s` to `1d`"),
    (r#"ttl = "5m""#, r#"ttl = "2d""#,
     "x.toml:9: `tiers.standard.ttl` is `2d`; give `1s` to `1d`"),
    (r#"ttl = "5m""#, r#"ttl = "-5m""#,
     "x.toml:9: `tiers.standard.ttl` is `-5m`; write a whole number and one of `ms`, `s`, `m`, `h`, `d`, like `500ms` or `5m`"),
    (r#"ttl = "5m""#, r#"ttl = "1500ms""#,
     "x.toml:9: `tiers.standard.ttl` is `1500ms`; give whole seconds"),
    (r#"ttl = "5m""#, r#"ttl = "2h""#,
     "x.toml:9: `tiers.standard.ttl` is `2h`, more than the tier's `ceiling` of `1h`; lower it"),
    (r#"ttl = "5m""#, r#"ttl = "5m"
min_ttl = "6m""#,
     "x.toml:9: `tiers.standard.ttl` is less than the tier's `min_ttl` of `6m`; raise it from `5m`"),
    (r#"ceiling = "1h""#, r#"ceiling = "31d""#,
     "x.toml:10: `tiers.standard.ceiling` is `31d`; give `1s` to `30d`"),
    (r#"ceiling = "1h""#, r#"ceiling = "1h"
freshness = "499ms""#,
     "x.toml:11: `tiers.standard.freshness` is `499ms`; give `500ms` to `5m`"),
    (r#"ceiling = "1h""#, r#"ceiling = "1h"
freshness = "301s""#,
     "x.toml:11: `tiers.standard.freshness` is `301s`; give `500ms` to `5m`"),
    (r#"ceiling = "1h""#, r#"ceiling = "1h"
proof = "Required""#,
     "x.toml:11: `tiers.standard.proof` is `Required`; write one of `required`, `optional`"),
    (r#"ceiling = "1h""#, r#"ceiling = "1h"
on_silence = "ignore""#,
     "x.toml:11: `tiers.standard.on_silence` is `ignore`; write one of `suspend`, `fail`"),
    (r#"ceiling = "1h""#, r#"ceiling = "1h"
on_silence = true"#,
     "x.toml:11: `tiers.standard.on_silence` is true or false; write text in quotes"),
    (r#"trust_domain = "prod.example""#, r#"trust_domain = "own.example""#,
     "x.toml:12: `trust.spiffe[0].trust_domain` is the broker's own; what it mints must not come back as an identity"),
    (r#"trust_domain = "prod.example""#, r#"trust_domain = "spiffe://prod.example""#,
     "x.toml:12: `trust.spiffe[0].trust_domain` is `spiffe://prod.example`; a trust domain has 1 to 255 characters of `a-z`, `0-9`, `.`, `-` and `_`, without scheme or port"),
    (r#"trust_domain = "prod.example"
bundle = { file = "Cargo.toml" }"#, r#"trust_domain = "prod.example""#,
     r#"x.toml:11: `trust.spiffe[0].bundle` is missing; write `bundle = { file = "prod.example.bundle.json" }`"#),
    (r#"bundle = { file = "Cargo.toml" }"#, r#"bundle = "Cargo.toml""#,
     "x.toml:13: `trust.spiffe[0].bundle` is text; write a table"),
    (r#"bundle = { file = "Cargo.toml" }"#, r#"bundle = { file = "Cargo.toml", workload_api = "unix:///a" }"#,
     "x.toml:13: `trust.spiffe[0].bundle` has two sources; keep one of them"),
    (r#"bundle = { file = "Cargo.toml" }"#, r#"bundle = { file = "Cargo.toml", max_age = "1h" }"#,
     "x.toml:13: `trust.spiffe[0].bundle.max_age` is for bundles that are fetched; a file does not grow old"),
    (r#"bundle = { file = "Cargo.toml" }"#, r#"bundle = { workload_api = "unix:///a", max_age = "1m" }"#,
     "x.toml:13: `trust.spiffe[0].bundle.max_age` is `1m`; give `5m` to `7d`"),
    (r#"bundle = { file = "Cargo.toml" }"#, r#"bundle = { workload_api = "/run/agent.sock" }"#,
     "x.toml:13: `trust.spiffe[0].bundle.workload_api` is `/run/agent.sock`; write `unix://` and the absolute path of a socket, or `tcp://` and an IP address and port"),
    (r#"bundle = { file = "Cargo.toml" }"#, r#"bundle = { workload_api = "tcp://192.0.2.1:8081" }"#,
     "x.toml:13: `trust.spiffe[0].bundle.workload_api` is `tcp://192.0.2.1:8081`, which leads to another machine without TLS; use an agent of this machine"),
    (r#"tls = { cert_file = "Cargo.toml", key_file = "Cargo.toml" }"#, r#"tls = { workload_api = "unix:///a", key_file = "Cargo.toml" }"#,
     "x.toml:4: `tls.workload_api` stands beside files; keep it, or `cert_file` and `key_file`"),
    (r#"tls = { cert_file = "Cargo.toml", key_file = "Cargo.toml" }"#, r#"tls = { cert_file = "Cargo.toml", key_file = "Cargo.toml", spiffe_id = "spiffe://prod.example/a" }"#,
     "x.toml:4: `tls.spiffe_id` chooses among what a Workload API gives; add `workload_api`, or remove it"),
    (r#"tls = { cert_file = "Cargo.toml", key_file = "Cargo.toml" }"#, r#"tls = { workload_api = "unix:///a", spiffe_id = "prod.example/a" }"#,
     "x.toml:4: `tls.spiffe_id` is `prod.example/a`; a SPIFFE ID begins with `spiffe://`, in lower case"),
    ("[[trust.oidc]]", r#"[[trust.spiffe]]
trust_domain = "prod.example"
bundle = { file = "Cargo.toml" }
[[trust.oidc]]"#,
     "x.toml:14: `trust.spiffe[1]` has the `trust_domain` of `trust.spiffe[0]`, `prod.example`; keep one of them"),
    ("[[trust.oidc]]", "[trust.jwt_svid]\naud = \"x\"\n[[trust.oidc]]",
     "x.toml:15: `trust.jwt_svid.aud` is not a field; known here: `audience`, `max_lifetime`"),
    ("[[trust.oidc]]", "[trust.jwt_svid]\naudience = \"\"\n[[trust.oidc]]",
     "x.toml:15: `trust.jwt_svid.audience` is empty; write something"),
    ("[[trust.oidc]]", "[trust.jwt_svid]\naudience = [\"x\"]\n[[trust.oidc]]",
     "x.toml:15: `trust.jwt_svid.audience` is a list; write text in quotes"),
    ("[[trust.oidc]]", "[trust.jwt_svid]\nmax_lifetime = \"2d\"\n[[trust.oidc]]",
     "x.toml:15: `trust.jwt_svid.max_lifetime` is `2d`; give `1m` to `1d`"),
    (r#"name = "k8s""#, r#"name = "K8s""#,
     "x.toml:15: `trust.oidc[0].name` is `K8s`; a name has 1 to 63 characters of `a-z`, `0-9` and `-`"),
    (r#"name = "k8s""#, r#"name = "spiffe""#,
     "x.toml:15: `trust.oidc[0].name` is `spiffe`, which is reserved; choose another name"),
    (r#""https://k8s.example""#, r#""http://k8s.example""#,
     "x.toml:16: `trust.oidc[0].issuer` is `http://k8s.example`; write `https://` and a host, without user, query and fragment"),
    (r#""https://k8s.example""#, r#""https://k8s.example/?a""#,
     "x.toml:16: `trust.oidc[0].issuer` is `https://k8s.example/?…`; write `https://` and a host, without user, query and fragment"),
    (r#"audience = "leasehold"
"#, "",
     r#"x.toml:14: `trust.oidc[0].audience` is missing; write `audience = "leasehold"`"#),
    (r#"audience = "leasehold""#, r#"audience = ["leasehold"]"#,
     "x.toml:17: `trust.oidc[0].audience` is a list; write text in quotes"),
    (r#"audience = "leasehold""#, r#"audience = "leasehold"
max_lifetime = "365d""#,
     "x.toml:18: `trust.oidc[0].max_lifetime` is `365d`; give `1m` to `1d`"),
    (r#"audience = "leasehold""#, r#"audience = "leasehold"
preset = "gitlab""#,
     "x.toml:18: `trust.oidc[0].preset` is `gitlab`; write one of `kubernetes`, `github`, `gcp`, `entra`, `aws`"),
    (r#"audience = "leasehold""#, r#"audience = "leasehold"
preset = "github"
token_review = { api_server = "https://k8s.example", token_file = "Cargo.toml" }"#,
     "x.toml:19: `trust.oidc[0].token_review` is for pods' tokens; write `preset = \"kubernetes\"`, or remove it"),
    (r#"audience = "leasehold""#, r#"audience = "leasehold"
preset = "kubernetes"
token_review = { api_server = "http://k8s.example" }"#,
     r#"x.toml:19: `trust.oidc[0].token_review.api_server` is `http://k8s.example`; write `https://` and a host, without user, query and fragment
x.toml:19: `trust.oidc[0].token_review.token_file` is missing; write `token_file = "/var/run/secrets/kubernetes.io/serviceaccount/token"`"#),
    (r#"audience = "leasehold""#, r#"audience = "https://k8s.example"
preset = "kubernetes""#,
     "x.toml:17: `trust.oidc[0].audience` is the API server's own, which the token of every pod has; choose one for the broker alone, like `leasehold`"),
    (r#"audience = "leasehold""#, r#"audience = "https://k8s.example/octo-org"
preset = "github""#,
     "x.toml:17: `trust.oidc[0].audience` is what jobs get that ask for no audience; choose one for the broker alone, like its own URL"),
    (r#"issuer = "https://k8s.example""#, r#"preset = "entra"
issuer = "https://login.microsoftonline.com/common/v2.0""#,
     "x.toml:17: `trust.oidc[0].issuer` names no tenant; write `https://login.microsoftonline.com/<tenant id>/v2.0`, or for tokens of version 1 `https://sts.windows.net/<tenant id>/`"),
    (r#"issuer = "https://k8s.example""#, r#"preset = "entra"
issuer = "https://login.microsoftonline.com/{tenantid}/v2.0""#,
     "x.toml:17: `trust.oidc[0].issuer` names no tenant; write `https://login.microsoftonline.com/<tenant id>/v2.0`, or for tokens of version 1 `https://sts.windows.net/<tenant id>/`"),
    (r#"audience = "leasehold"
[[roles]]"#, r#"audience = "leasehold"
preset = "aws"
[[roles]]
role = "verifier"
audiences = ["a"]
issuer = "k8s"
claims = { sub = "arn:aws:iam::123456789012:role/a", "https://sts.amazonaws.com/request_tags/team" = "a" }
[[roles]]"#,
     "x.toml:23: `roles[0].claims.https://sts.amazonaws.com/request_tags/team` is whatever the caller asks for, and proves nothing about it; match what AWS attests, like `sub`"),
    (r#"audience = "leasehold""#, r#"audience = "leasehold"
jwks = { file = "Cargo.toml" }
in_cluster = true"#,
     "x.toml:18: `trust.oidc[0].jwks` is a file, so nothing is fetched; remove `ca_file`, `in_cluster` and `danger_loopback`"),
    ("[[trust.oidc]]", r#"[[trust.oidc]]
name = "other"
issuer = "https://k8s.example"
audience = "a"
[[trust.oidc]]"#,
     "x.toml:18: `trust.oidc[1]` has the `issuer` of `trust.oidc[0]`, `https://k8s.example`; keep one of them"),
    (r#"role = "agent""#, r#"role = "admin""#,
     "x.toml:19: `roles[0].role` is `admin`; write one of `agent`, `orchestrator`, `operator`, `approver`, `verifier`"),
    (r#"role = "agent"
"#, "",
     r#"x.toml:18: `roles[0].role` is missing; write `role = "agent"`"#),
    (r#"role = "operator""#, r#"role = "operator"
name = "root""#,
     "x.toml:26: `roles[1].name` is not a field; known here: `match`, `issuer`, `subject`, `claims`, `role`"),
    (r#"role = "operator""#, r#"role = "orchestrator""#,
     r#"x.toml:24: `roles[1].name` is missing; write `name = "ci"`"#),
    (r#"role = "operator""#, r#"role = "verifier""#,
     r#"x.toml:24: `roles[1].audiences` is missing; write `audiences = ["https://ledger.example"]`"#),
    (r#"role = "operator""#, r#"role = "verifier"
audiences = []"#,
     "x.toml:26: `roles[1].audiences` is empty; name at least one"),
    (r#"class = "finance""#, r#"class = "finance_""#,
     "x.toml:20: `roles[0].class` is `finance_`; a name has 1 to 63 characters of `a-z`, `0-9` and `-`"),
    (r#"owner = "payments"
"#, "",
     r#"x.toml:18: `roles[0].owner` is missing; write `owner = "payments"`"#),
    (r#"["standard"]"#, r#"["critical"]"#,
     "x.toml:22: `roles[0].tiers[0]` is `critical`, which is no tier of this file; there are `standard`"),
    (r#"["standard"]"#, r#""standard""#,
     "x.toml:22: `roles[0].tiers` is text; write a list in `[` and `]`"),
    (r#"["standard"]"#, "[]",
     "x.toml:22: `roles[0].tiers` is empty; name at least one"),
    (r#"match = "spiffe://prod.example/agents/*""#, r#"match = "spiffe://prod.example/*/a""#,
     "x.toml:23: `roles[0].match` is `spiffe://prod.example/*/a`; write a SPIFFE ID, or one whose last segment is `*` for all that lie below"),
    (r#"match = "spiffe://prod.example/agents/*""#, r#"match = "spiffe://prod.example/agents/**""#,
     "x.toml:23: `roles[0].match` is `spiffe://prod.example/agents/**`; write a SPIFFE ID, or one whose last segment is `*` for all that lie below"),
    (r#"match = "spiffe://prod.example/agents/*""#, r#"match = "spiffe://prod.exampel/agents/*""#,
     "x.toml:23: `roles[0].match` lies in `prod.exampel`, which no `[[trust.spiffe]]` names; did you mean `prod.example`?"),
    (r#"match = "spiffe://prod.example/agents/*""#, r#"match = "spiffe://own.example/task/*""#,
     "x.toml:23: `roles[0].match` lies in `own.example`, which no `[[trust.spiffe]]` names; did you mean `prod.example`?"),
    (r#"match = "spiffe://prod.example/agents/*""#, r#"match = "spiffe://prod.example/agents/*"
subject = "x""#,
     "x.toml:23: `roles[0].match` stands beside `issuer`, `subject` or `claims`; make two entries of it"),
    (r#"match = "spiffe://prod.example/agents/*"
"#, "",
     r#"x.toml:18: `roles[0]` matches nobody; add `match = "spiffe://…"`, or `issuer` and `subject` or `claims`"#),
    (r#"issuer = "k8s""#, r#"issuer = "k3s""#,
     "x.toml:26: `roles[1].issuer` is `k3s`, which is no issuer of this file; did you mean `k8s`?"),
    (r#"issuer = "k8s"
"#, "",
     "x.toml:24: `roles[1]` has no `issuer`; say whose tokens are meant"),
    (r#"subject = "admin"
"#, "",
     "x.toml:26: `roles[1].issuer` alone would match everyone of the issuer; add `subject` or `claims`"),
    (r#"subject = "admin""#, "claims = {}",
     "x.toml:27: `roles[1].claims` is empty, and would match everyone of the issuer; name a claim"),
    (r#"subject = "admin""#, "claims = { ref = 7 }",
     "x.toml:27: `roles[1].claims.ref` is an integer; write text in quotes"),
    (r#"subject = "admin""#, r#"subject = "admin"
[[roles]]
role = "agent"
class = "finance"
owner = "others"
tiers = ["standard"]
match = "spiffe://prod.example/x""#,
     "x.toml:28: `roles[2]` gives the class `finance` another owner or other tiers than `roles[0]`; make them the same, or two classes"),
    (r#"grpc = "127.0.0.1:7700""#, r#"metrics = "127.0.0.1:7701""#,
     "x.toml:7: `listen.metrics` is the address of `grpc` or `http`; give it its own port"),
    ("[listen]", "[dpop]\nnonce = \"optional\"\n[listen]",
     "x.toml:7: `dpop.nonce` is `optional`; write one of `off`, `required`"),
    ("[listen]", "[crl]\nmax_age = \"31s\"\n[listen]",
     "x.toml:7: `crl.max_age` is `31s`; give `1s` to `30s`"),
    ("[listen]", "[crl]\nlifetime = \"59s\"\n[listen]",
     "x.toml:7: `crl.lifetime` is `59s`; give `1m` to `1d`"),
    ("[listen]", "[dpop]\ntargets = []\n[listen]",
     "x.toml:7: `dpop.targets` is empty; name at least one"),
    ("[listen]", "[dpop]\ntargets = [\"http://own.example\"]\n[listen]",
     "x.toml:7: `dpop.targets[0]` is `http://own.example`, which does not begin with `https://`"),
    ("[listen]", "[dpop]\ntargets = [\"https://own.example/x\"]\n[listen]",
     "x.toml:7: `dpop.targets[0]` is `https://own.example/x`; write it without a path"),
    ("[listen]", "[feed]\ndrift = \"0.001%\"\n[listen]",
     "x.toml:7: `feed.drift` is `0.001%`; give `0.01%` to `10%`, with at most 4 decimals"),
    ("[listen]", "[feed]\ndrift = 0.01\n[listen]",
     "x.toml:7: `feed.drift` is a fraction; write text in quotes"),
    ("[listen]", "[feed]\nname = \"a\\nb\"\n[listen]",
     "x.toml:7: `feed.name` is no name; write at most 253 bytes on one line"),
    ("[listen]", "[feed]\nstreams = 0\n[listen]",
     "x.toml:7: `feed.streams` is 0; give 1 to 65536"),
    ("[listen]", "[limits]\ndepth = 17\n[listen]",
     "x.toml:7: `limits.depth` is 17; give 1 to 16"),
    ("[listen]", "[limits]\nfan_out = -1\n[listen]",
     "x.toml:7: `limits.fan_out` is -1; give 1 to 4096"),
    ("[listen]", "[limits]\ninstances = 0\n[listen]",
     "x.toml:7: `limits.instances` is 0; give 1 to 1024"),
    ("[listen]", r#"[limits]
ended_task_retention = "1m"
[listen]"#,
     "x.toml:7: `limits.ended_task_retention` is `1m`; give `1h` to `30d`"),
    ("[listen]", "[limits]\nrequests_in_flight = 1.5\n[listen]",
     "x.toml:7: `limits.requests_in_flight` is a fraction; write a whole number"),
    ("[listen]", r#"[log]
format = "JSON"
[listen]"#,
     "x.toml:7: `log.format` is `JSON`; write one of `human`, `json`"),
    ("[listen]", r#"[log]
filter = "leasehold=loud"
[listen]"#,
     "x.toml:7: `log.filter` is `leasehold=loud`; write it like `info` or `warn,leasehold=debug`"),
    (r#""https://k8s.example""#, r#""https://own.example""#,
     "x.toml:16: `trust.oidc[0].issuer` is the broker's own; its tokens must not come back as identities"),
    (r#""https://k8s.example""#, r#""https://own.example/spiffe""#,
     "x.toml:16: `trust.oidc[0].issuer` is the broker's own; its tokens must not come back as identities"),
    (r#"issuer = "https://k8s.example""#, r#"danger_loopback = true
issuer = "http://k8s.example""#,
     "x.toml:17: `trust.oidc[0].issuer` is `http://k8s.example`; write `https://` and a host, without user, query and fragment"),
    (r#"issuer = "https://k8s.example""#, r#"danger_loopback = true
jwks = { file = "Cargo.toml" }
issuer = "https://k8s.example""#,
     "x.toml:17: `trust.oidc[0].jwks` is a file, so nothing is fetched; remove `ca_file`, `in_cluster` and `danger_loopback`"),
];

/// Each is taken, with these warnings, if any.
#[rustfmt::skip]
pub(super) const DOUBTS: &[(&str, &str, &str)] = &[
    (r#"keys = { encryption_key_env = "KEY" }"#, r#"keys = { encryption_key_file = "none" }"#,
     "x.toml:5: `keys.encryption_key_file` names `none`, which is not there; make it before `serve`"),
    (r#"ttl = "5m""#, r#"ttl = "5m"
proof = "optional""#,
     "x.toml:10: `tiers.standard.proof` is `optional`: whoever gets hold of a bearer token of this tier can use it"),
    (r#"ttl = "5m""#, r#"ttl = "5m"
freshness = "31s""#,
     "x.toml:10: `tiers.standard.freshness` is more than `30s`, the `delta_max` of a store that was made without saying another"),
    (r#"ttl = "5m""#, r#"ttl = "16m""#,
     "x.toml:9: `tiers.standard.ttl` is more than `15m`: who checks a certificate of this tier without fetching the CRL that it names accepts it until it expires"),
    (r#"role = "operator""#, r#"role = "approver""#,
     "x.toml:18: `roles` has no operator; nobody could quarantine or revoke"),
    (r#"subject = "admin""#, r#"subject = "admin"
[[roles]]
role = "agent"
class = "b"
owner = "o"
tiers = ["standard"]
match = "spiffe://prod.example/agents/a/b""#,
     "x.toml:28: `roles[2]` can match principals that `roles[0]` matches too, of class `finance`; their calls are refused, so narrow one pattern"),
    (r#"subject = "admin""#, r#"subject = "admin"
[[roles]]
role = "agent"
class = "b"
owner = "o"
tiers = ["standard"]
match = "spiffe://prod.example/agents/a/*""#,
     "x.toml:28: `roles[2]` can match principals that `roles[0]` matches too, of class `finance`; their calls are refused, so narrow one pattern"),
    (r#"subject = "admin""#, r#"subject = "admin"
[[roles]]
role = "agent"
class = "b"
owner = "o"
tiers = ["standard"]
match = "spiffe://prod.example/agent/*""#,
     ""),
    (r#"subject = "admin""#, r#"subject = "admin"
[[roles]]
role = "agent"
class = "b"
owner = "o"
tiers = ["standard"]
issuer = "k8s"
claims = { a = "1" }
[[roles]]
role = "agent"
class = "c"
owner = "o"
tiers = ["standard"]
issuer = "k8s"
claims = { b = "1" }"#,
     "x.toml:35: `roles[3]` can match principals that `roles[2]` matches too, of class `b`; their calls are refused, so narrow one pattern"),
    (r#"subject = "admin""#, r#"subject = "admin"
[[roles]]
role = "agent"
class = "b"
owner = "o"
tiers = ["standard"]
issuer = "k8s"
claims = { a = "1" }
[[roles]]
role = "agent"
class = "c"
owner = "o"
tiers = ["standard"]
issuer = "k8s"
claims = { a = "2" }"#,
     ""),
    (r#"subject = "admin""#, r#"subject = "admin"
[[roles]]
role = "agent"
class = "b"
owner = "o"
tiers = ["standard"]
issuer = "k8s"
subject = "a"
[[roles]]
role = "agent"
class = "c"
owner = "o"
tiers = ["standard"]
issuer = "k8s"
subject = "b"
claims = { a = "2" }"#,
     ""),
    (r#"subject = "admin""#, r#"subject = "admin"
[[roles]]
role = "orchestrator"
name = "ci"
issuer = "k8s"
subject = "a"
[[roles]]
role = "orchestrator"
name = "ci"
issuer = "k8s"
subject = "b""#,
     "x.toml:33: `roles[3]` has the `name` of `roles[2]`; whoever matches one drives the tasks of the other"),
    (r#"issuer = "https://k8s.example""#, r#"danger_loopback = true
issuer = "http://127.0.0.1:8080""#,
     "x.toml:16: `trust.oidc[0].danger_loopback` takes keys from this machine without TLS; for development only"),
    (r#"bundle = { file = "Cargo.toml" }"#, r#"bundle = { endpoint = "https://localhost:1", profile = "https_web", danger_loopback = true }"#,
     "x.toml:13: `trust.spiffe[0].bundle.danger_loopback` takes a bundle from this machine; for development only"),
    (r#"bundle = { file = "Cargo.toml" }"#, r#"bundle = { endpoint = "https://x", profile = "https_spiffe", endpoint_spiffe_id = "spiffe://infra.example/s" }
[[trust.spiffe]]
trust_domain = "infra.example"
bundle = { file = "Cargo.toml" }"#,
     ""),
    (r#"issuer = "https://k8s.example""#, r#"preset = "github"
issuer = "https://k8s.example""#,
     "x.toml:25: `roles[1]` names its workload by what can be given to another; add `repository_id`, `repository_owner_id`, `job_workflow_ref` to `claims`"),
    (r#"audience = "leasehold""#, r#"audience = "leasehold"
preset = "kubernetes""#,
     "x.toml:25: `roles[1]` names its workload by what can be given to another; add `kubernetes.io/serviceaccount/uid` to `claims`"),
    (r#"audience = "leasehold""#, r#"audience = "leasehold"
preset = "gcp""#,
     ""),
    (r#"audience = "leasehold""#, r#"audience = "leasehold"
preset = "aws""#,
     ""),
];

/// Claims of an entry without a subject, by preset, and the claims that are to be added.
pub(super) const LASTING: &[(&str, &str, &str)] = &[
    (
        "kubernetes",
        r#""kubernetes.io/serviceaccount/name" = "a""#,
        "`kubernetes.io/serviceaccount/uid`",
    ),
    ("kubernetes", r#""kubernetes.io/serviceaccount/uid" = "a""#, ""),
    ("kubernetes", r#""kubernetes.io/pod/uid" = "a""#, ""),
    (
        "github",
        r#"repository = "a/b""#,
        "`repository_id`, `repository_owner_id`, `job_workflow_ref`",
    ),
    ("github", r#"repository_id = "7", repository_owner_id = "8""#, "`job_workflow_ref`"),
    ("github", r#"repository_id = "7", job_workflow_ref = "w""#, "`repository_owner_id`"),
    ("github", r#"repository_id = "7", repository_owner_id = "8", job_workflow_ref = "w""#, ""),
    ("gcp", r#"email = "a@b.gserviceaccount.com""#, "`sub`"),
    ("gcp", r#""google/compute_engine/project_id" = "a""#, "`sub`"),
    ("gcp", r#"sub = "1""#, ""),
    ("gcp", r#""google/compute_engine/instance_id" = "1""#, ""),
    ("entra", r#"xms_mirid = "/subscriptions/a""#, "`oid`"),
    ("entra", r#"oid = "1""#, ""),
    ("aws", r#""https://sts.amazonaws.com/principal_tags/team" = "a""#, "`sub`"),
    ("aws", r#""https://sts.amazonaws.com/lambda_source_function_arn" = "a""#, ""),
];
