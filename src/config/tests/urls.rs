//! URLs with mistakes: what stands in the sound file, what stands there instead, what is said, which shows no password.

/// Each is refused.
#[rustfmt::skip]
pub(super) const MISTAKES: &[(&str, &str, &str)] = &[
    (r#""https://own.example""#, r#""http://own.example""#,
     "x.toml:2: `base_url` is `http://own.example`; write `https://` and a host, without user, query and fragment"),
    (r#""https://own.example""#, r#""https://own.example/""#,
     "x.toml:2: `base_url` is `https://own.example/`; write it without a path and without `/` at its end"),
    (r#""https://own.example""#, r#""https://me@own.example""#,
     "x.toml:2: `base_url` is `https://…@own.example`; write `https://` and a host, without user, query and fragment"),
    (r#""https://own.example""#, r#""https://me:hun/ter2@own.example""#,
     "x.toml:2: `base_url` is `https://…@own.example`; write `https://` and a host, without user, query and fragment"),
    (r#""https://own.example""#, r#""https://me:12/ter2@own.example""#,
     "x.toml:2: `base_url` is `https://…@own.example`; write it without a path and without `/` at its end"),
    (r#""https://own.example""#, r#""https://own.example:70000""#,
     "x.toml:2: `base_url` is `https://own.example:70000`; write `https://` and a host, without user, query and fragment"),
    (r#""https://own.example""#, r#""https://me:hun?ter2@own.example""#,
     "x.toml:2: `base_url` is `https://…`; write `https://` and a host, without user, query and fragment"),
    (r#""https://own.example""#, r#""https:/me:hunter2@own.example""#,
     "x.toml:2: `base_url` is `…@own.example`; write `https://` and a host, without user, query and fragment"),
    (r#""https://own.example""#, r#""https://own.example/?mail=me@hunter2""#,
     "x.toml:2: `base_url` is `https://…`; write `https://` and a host, without user, query and fragment"),
    (r#""https://own.example""#, r#""HTTPS://own.example""#,
     "x.toml:2: `base_url` is `HTTPS://own.example`; write `https://` and a host, without user, query and fragment"),
    ("[listen]", "[dpop]\ntargets = [\"https://me:hunter2@own.example\"]\n[listen]",
     "x.toml:7: `dpop.targets[0]` is `https://…@own.example`, which has a user in front of the host"),
];
