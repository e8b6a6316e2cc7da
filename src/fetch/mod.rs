//! Fetching and pushing of documents, with nothing followed, nothing inflated, nothing sent along that is not asked for, and
//! every length bounded.

mod address;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue,
    RETRY_AFTER,
};
use reqwest::{Client, ClientBuilder, RequestBuilder, StatusCode, Url};
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

pub(crate) use address::Reach;

use crate::domain::time::Span;
use crate::jose::MAX_SET_BYTES;

/// From the first byte sent to the last received.
const TIMEOUT: Span = Span::from_seconds(5);
const CONNECT_TIMEOUT: Span = Span::from_seconds(3);
/// Of an answer to what was pushed, no more is read.
const MAX_PUSHED_BYTES: usize = 4 * 1024;

/// A document could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not a URL, another scheme than `https`, or with user, password or fragment.
    #[error("`{0}` is not an https URL without user, password and fragment")]
    Url(String),
    /// The address, or every address of the name, is of special use.
    #[error(
        "`{0}` leads to an address inside this network; if it is meant to be there, set `in_cluster = true`"
    )]
    Address(String),
    /// The CA file is unreadable or holds no certificate.
    #[error("the CA file `{0}` holds no certificates in PEM, or cannot be read")]
    CaFile(String),
    /// This machine has no root certificates.
    #[error("no root certificates on this machine: install them, or set `ca_file`")]
    NoRoots,
    /// DNS, TCP, TLS or HTTP failed, or took longer than 5 seconds.
    #[error("`{0}` cannot be fetched: {1}")]
    Transport(String, String),
    /// Another status than that of an answer. Redirects are not followed.
    #[error("`{0}` answers with status {1}, which is no answer; redirects are not followed")]
    Status(String, u16),
    /// Compressed, which was not asked for.
    #[error("`{0}` answers with a compressed document, which was not asked for")]
    Compressed(String),
    /// More than 512 KiB.
    #[error("`{0}` answers with more than {MAX_SET_BYTES} bytes")]
    TooLarge(String),
}

/// A document, and for how long its server says that it may be kept.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) body: Vec<u8>,
    pub(crate) max_age: Option<Span>,
}

/// What a receiver answered to a document that was pushed to it: any status that it chose.
#[derive(Debug)]
pub(crate) struct Pushed {
    pub(crate) status: StatusCode,
    /// `Retry-After` in seconds; its other form, a date, counts as none.
    pub(crate) retry_after: Option<Span>,
    /// At most the first 4 KiB.
    pub(crate) body: Vec<u8>,
}

/// Fetches documents of one issuer or endpoint, or pushes them to one receiver.
#[derive(Debug)]
pub(crate) struct Fetcher {
    client: Client,
    reach: Reach,
    timeout: Span,
}

impl Fetcher {
    /// A fetcher that trusts the certificates in `ca_file`, or without one this machine's.
    pub(crate) fn new(reach: Reach, ca_file: Option<&Path>) -> Result<Self, FetchError> {
        let tls = tls()?.with_root_certificates(roots(reach, ca_file)?).with_no_client_auth();
        Self::over(reach, tls, Client::builder())
    }

    /// A fetcher that leaves it to `verifier` whether a server is the right one. Every document is fetched over a connection of
    /// its own, so every time is asked.
    pub(crate) fn with_server_verifier(
        reach: Reach,
        verifier: Arc<dyn ServerCertVerifier>,
    ) -> Result<Self, FetchError> {
        let tls = tls()?.dangerous().with_custom_certificate_verifier(verifier);
        let mut tls = tls.with_no_client_auth();
        // A resumed session would skip the check of the server's certificate.
        tls.resumption = Resumption::disabled();
        Self::over(reach, tls, Client::builder().pool_max_idle_per_host(0))
    }

    fn over(reach: Reach, tls: ClientConfig, client: ClientBuilder) -> Result<Self, FetchError> {
        let client = client
            .tls_backend_preconfigured(tls)
            .http1_only()
            .no_proxy()
            .referer(false)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .dns_resolver(GuardedResolver(reach))
            .connect_timeout(CONNECT_TIMEOUT.to_std())
            .build()
            .map_err(|error| unusable(&error))?;
        Ok(Self { client, reach, timeout: TIMEOUT })
    }

    /// Fetches one document.
    pub(crate) async fn get(&self, url: &str) -> Result<Fetched, FetchError> {
        let target = check_url(url, self.reach)?;
        self.answer(url, self.client.get(target), StatusCode::OK).await
    }

    /// Has a document made of one in JSON, and fetches it. `authorization` is sent along.
    pub(crate) async fn post(
        &self,
        url: &str,
        authorization: HeaderValue,
        json: String,
    ) -> Result<Fetched, FetchError> {
        let target = check_url(url, self.reach)?;
        let request = self.client.post(target).header(AUTHORIZATION, authorization);
        let request = request.header(CONTENT_TYPE, "application/json").body(json);
        self.answer(url, request, StatusCode::CREATED).await
    }

    /// Pushes a document: whatever its receiver answers within `timeout` is an answer.
    pub(crate) async fn push(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Vec<u8>,
        timeout: Span,
    ) -> Result<Pushed, FetchError> {
        // Whoever knows the path of a receiver can often push to it.
        let shown = origin(url);
        let target = checked(url, &shown, self.reach)?;
        let transport = transport(&shown);
        let request = self.client.post(target).headers(headers).body(body);
        let mut response = request.timeout(timeout.to_std()).send().await.map_err(&transport)?;
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        let (status, mut body) = (response.status(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(&transport)? {
            let room = MAX_PUSHED_BYTES.saturating_sub(body.len());
            body.extend(chunk.iter().take(room));
            if chunk.len() >= room {
                break;
            }
        }
        Ok(Pushed { status, retry_after: retry_after.map(Span::from_seconds), body })
    }

    async fn answer(
        &self,
        url: &str,
        request: RequestBuilder,
        wanted: StatusCode,
    ) -> Result<Fetched, FetchError> {
        let transport = transport(url);
        let request = request.timeout(self.timeout.to_std());
        let mut response = request.send().await.map_err(&transport)?;
        if response.status() != wanted {
            return Err(FetchError::Status(url.to_owned(), response.status().as_u16()));
        }
        if response.headers().contains_key(CONTENT_ENCODING) {
            return Err(FetchError::Compressed(url.to_owned()));
        }
        let max_age = response.headers().get(CACHE_CONTROL);
        let max_age = max_age.and_then(|value| value.to_str().ok()).and_then(max_age_of);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(&transport)? {
            if body.len() + chunk.len() > MAX_SET_BYTES {
                return Err(FetchError::TooLarge(url.to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Fetched { body, max_age })
    }
}

fn tls() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, FetchError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    builder.with_safe_default_protocol_versions().map_err(|error| unusable(&error))
}

fn transport(url: &str) -> impl Fn(reqwest::Error) -> FetchError {
    |error| FetchError::Transport(url.to_owned(), innermost(&error.without_url()))
}

fn unusable(error: &dyn std::error::Error) -> FetchError {
    FetchError::Transport("https".to_owned(), innermost(error))
}

/// A URL that may be fetched; a literal address in it never reaches the resolver and is checked here.
pub(crate) fn check_url(text: &str, reach: Reach) -> Result<Url, FetchError> {
    checked(text, text, reach)
}

/// Scheme, host and port of a URL, which may be shown whatever stands before or behind them.
fn origin(text: &str) -> String {
    Url::parse(text).map_or_else(|_| "…".to_owned(), |url| url.origin().ascii_serialization())
}

/// The same as `check_url`, with what is shown of it.
fn checked(text: &str, shown: &str, reach: Reach) -> Result<Url, FetchError> {
    let wrong = || FetchError::Url(shown.to_owned());
    let url = Url::parse(text).map_err(|_| wrong())?;
    let scheme_fits = url.scheme() == "https" || url.scheme() == "http" && reach == Reach::Loopback;
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let host = url.host_str().filter(|_| scheme_fits && bare).ok_or_else(wrong)?;
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match literal {
        Ok(address) if !reach.admits(address) => Err(FetchError::Address(shown.to_owned())),
        _ => Ok(url),
    }
}

/// Resolves a name to the addresses that may be connected to. The connection is made to these very addresses, so a name
/// that changes between check and use gains nothing (DNS rebinding).
#[derive(Debug)]
struct GuardedResolver(Reach);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses: Addrs = Box::new(admitted(found, reach, name.as_str())?.into_iter());
            Ok(addresses)
        })
    }
}

fn admitted(
    found: impl Iterator<Item = SocketAddr>,
    reach: Reach,
    name: &str,
) -> Result<Vec<SocketAddr>, FetchError> {
    let admitted: Vec<_> = found.filter(|address| reach.admits(address.ip())).collect();
    if admitted.is_empty() { Err(FetchError::Address(name.to_owned())) } else { Ok(admitted) }
}

fn roots(reach: Reach, ca_file: Option<&Path>) -> Result<RootCertStore, FetchError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca_file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() && reach != Reach::Loopback {
            return Err(FetchError::NoRoots);
        }
        return Ok(roots);
    };
    let wrong = || FetchError::CaFile(path.display().to_string());
    for certificate in CertificateDer::pem_file_iter(path).map_err(|_| wrong())? {
        roots.add(certificate.map_err(|_| wrong())?).map_err(|_| wrong())?;
    }
    if roots.is_empty() { Err(wrong()) } else { Ok(roots) }
}

/// `max-age` of a `Cache-Control` (RFC 9111 section 5.2); zero where keeping is forbidden.
fn max_age_of(header: &str) -> Option<Span> {
    let directives = || header.split(',').map(|directive| directive.trim().to_ascii_lowercase());
    if directives().any(|directive| matches!(directive.as_str(), "no-store" | "no-cache")) {
        return Some(Span::ZERO);
    }
    let seconds = directives().find_map(|d| d.strip_prefix("max-age=")?.parse().ok());
    seconds.map(Span::from_seconds)
}

/// The cause at the bottom, which says what happened where the outer ones say where.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
