//! `store`: which store, and how to reach it.

use std::path::PathBuf;

use axum::http::Uri;

use super::document::Field;
use super::secret_source::{self, SecretSource};
use super::section::Section;
use super::value;
use crate::domain::time::Span;

/// Where tasks, leases and revocations are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// In this folder, for one broker.
    Embedded {
        /// The folder; the broker makes it.
        path: PathBuf,
    },
    /// On a Redis server.
    Redis(RedisConfig),
}

/// One Redis server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// `rediss://host:port`, or `redis://` on this machine; never with a password.
    pub url: String,
    /// Roots that the server's certificate must lead to; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Our certificate towards the server.
    pub client: Option<CertificateFiles>,
    /// The ACL user; `None`: `default`.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<SecretSource>,
    /// How long one answer may take; 50 ms to 30 s.
    pub response_timeout: Span,
}

/// A certificate chain and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub cert_file: PathBuf,
    /// The leaf's private key.
    pub key_file: PathBuf,
}

#[derive(Clone, Copy)]
enum Kind {
    Embedded,
    Redis,
}

pub(super) fn read(section: &mut Section<'_>) -> Option<StoreConfig> {
    let kinds = value::choice(&[("embedded", Kind::Embedded), ("redis", Kind::Redis)]);
    match section.required("kind", "kind = \"embedded\"", kinds) {
        Some(Kind::Embedded) => embedded(section),
        Some(Kind::Redis) => redis(section).map(StoreConfig::Redis),
        None => {
            section.ignore_rest();
            None
        }
    }
}

fn embedded(section: &mut Section<'_>) -> Option<StoreConfig> {
    let path = section.required("path", "path = \"data\"", value::path)?;
    Some(StoreConfig::Embedded { path })
}

fn redis(section: &mut Section<'_>) -> Option<RedisConfig> {
    let url = section.required("url", "url = \"rediss://redis.example:6379\"", url);
    let copies = section.or("copies", (), copies);
    let ca_file = section.optional("ca_file", value::file);
    let client = certificate(section);
    let username = section.optional("username", value::owned);
    let password = secret_source::read(section, ("password_file", "password_env"));
    let bounds = Span::from_millis(50)..=Span::from_seconds(30);
    let response_timeout =
        section.or("response_timeout", Span::from_seconds(2), value::duration(bounds));
    let (url, client, ca_file) = (url?, client?, ca_file?);
    let (username, password) = (username?, password?);
    if url.starts_with("redis://") && (ca_file.is_some() || client.is_some()) {
        return section
            .refuse("url", "is without TLS, and certificates are given; write `rediss://`");
    }
    if username.is_some() && password.is_none() {
        return section
            .refuse("username", "has no password; add `password_file` or `password_env`");
    }
    copies?;
    Some(RedisConfig {
        url,
        ca_file,
        client,
        username,
        password,
        response_timeout: response_timeout?,
    })
}

/// `cert_file` and `key_file`, both or neither.
fn certificate(section: &mut Section<'_>) -> Option<Option<CertificateFiles>> {
    let cert_file = section.optional("cert_file", value::file);
    let key_file = section.optional("key_file", value::file);
    match (cert_file?, key_file?) {
        (Some(cert_file), Some(key_file)) => Some(Some(CertificateFiles { cert_file, key_file })),
        (None, None) => Some(None),
        (Some(_), None) => section.refuse("cert_file", "is without its `key_file`; give both"),
        (None, Some(_)) => section.refuse("key_file", "is without its `cert_file`; give both"),
    }
}

fn url(field: &Field<'_>) -> Option<String> {
    let text = value::text(field)?;
    let Ok(uri) = text.parse::<Uri>() else {
        return field.refuse("is no URL; write it like `rediss://redis.example:6379`");
    };
    let host = uri.host().unwrap_or_default();
    // The text may hold a password: it is not repeated.
    match uri.scheme_str() {
        _ if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) => field
            .refuse(
                "holds a user or password; use `username`, and `password_file` or `password_env`",
            ),
        Some("rediss") if !host.is_empty() => Some(text.to_owned()),
        Some("redis") if ["127.0.0.1", "[::1]", "localhost"].contains(&host) => {
            Some(text.to_owned())
        }
        Some("redis") => field.refuse("is without TLS to another machine; write `rediss://`"),
        _ => field.refuse("is no address of a Redis server; write `rediss://` and a host"),
    }
}

/// Replicas are waited for once this version can; until then more copies would be promised and not had.
fn copies(field: &Field<'_>) -> Option<()> {
    let copies: u64 = value::integer(1..=9)(field)?;
    if copies == 1 {
        return Some(());
    }
    field.refuse(format!(
        "is {copies}; this version writes to one server and waits for no replica, so write 1"
    ))
}
