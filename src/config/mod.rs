//! The configuration file: read whole, checked whole, typed with the domain's types.
//!
//! Nothing is guessed: a field that is not known, a value out of bounds, a word without a meaning are mistakes, and each is
//! named by file, line, field and what to write instead. Words and fields: DESIGN.md section 10, and `config/leasehold.toml`.

pub mod crl;
pub mod dpop;
pub mod duration;
pub mod feed;
pub mod keys;
pub mod limits;
pub mod listen;
pub mod problem;
pub mod secret_source;
pub mod store;
pub mod trust;
pub mod webhooks;

mod document;
mod lasting;
mod overlap;
mod roles;
mod section;
mod tiers;
mod value;

use std::path::Path;
use std::{fs, io};

use toml::de::DeTable;

use crate::domain::role::RoleEntry;
use crate::domain::tier::Tier;
use crate::spiffe::id::TrustDomain;
use crl::Crl;
use document::{Document, Field};
use dpop::Dpop;
use feed::Feed;
use keys::Keys;
use limits::{Limits, Log};
use listen::{CertificateSource, Listen};
use problem::{ConfigErrors, Problem};
use section::Section;
use store::StoreConfig;
use trust::Trust;
use webhooks::Webhook;

/// No configuration is longer.
const MAX_BYTES: u64 = 1 << 20;

/// A broker's configuration, checked. Its parts fit one another.
#[derive(Clone, Debug)]
pub struct Config {
    /// The broker's own trust domain, which differs from every trusted one.
    pub trust_domain: TrustDomain,
    /// `https://host[:port]`: the `iss` of its tokens, and where its public documents lie.
    pub base_url: String,
    /// Where it keeps what it knows.
    pub store: StoreConfig,
    /// Where it answers.
    pub listen: Listen,
    /// Its own certificate towards its callers, on both sockets.
    pub tls: CertificateSource,
    /// Sets of limits; at least one, no two of one name. The store's `delta_max` is for whoever opens the store to compare.
    pub tiers: Vec<Tier>,
    /// Whose word it takes.
    pub trust: Trust,
    /// What principals may do.
    pub roles: Vec<RoleEntry>,
    /// What proofs of possession must say.
    pub dpop: Dpop,
    /// Lists of revoked certificates.
    pub crl: Crl,
    /// Its own keys.
    pub keys: Keys,
    /// Its part of fencing.
    pub feed: Feed,
    /// Who is told what happens.
    pub webhooks: Vec<Webhook>,
    /// Upper limits.
    pub limits: Limits,
    /// Logs.
    pub log: Log,
    /// What is allowed, and probably not meant.
    pub warnings: Vec<Problem>,
}

/// Reads and checks the configuration in a file.
///
/// # Errors
/// [`ConfigErrors`] holds every mistake; also that the file cannot be read.
pub fn load(file: &Path) -> Result<Config, ConfigErrors> {
    let text = read(file).map_err(|error| {
        let text = format!("cannot be read: {error}; {}", remedy(&error));
        let field = String::new();
        ConfigErrors::new(vec![Problem { file: file.to_owned(), line: None, field, text }])
    })?;
    parse(file, &text)
}

/// Checks a text as if it were the contents of `file`, whose folder relative paths start from.
///
/// # Errors
/// [`ConfigErrors`] holds every mistake.
pub fn parse(file: &Path, text: &str) -> Result<Config, ConfigErrors> {
    let document = Document::new(file, text);
    let config = document.parse().and_then(|table| config(&document, &table));
    let (mut config, warnings) = document.finish(config)?;
    config.warnings = warnings;
    Ok(config)
}

/// Reads the fields of a `store` that stands by itself: a command line's. Mistakes are named after `origin`.
///
/// # Errors
/// Every mistake that there is.
pub fn parse_store(origin: &str, text: &str) -> Result<StoreConfig, ConfigErrors> {
    let document = Document::new(Path::new(origin), text);
    let store = document.parse().and_then(|table| {
        let mut root = Section::root(&document, &table);
        let store = store::read(&mut root);
        root.finish();
        store
    });
    let (store, _) = document.finish(store).map_err(ConfigErrors::without_lines)?;
    Ok(store)
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "name your configuration (`serve` takes `--config`). `config/leasehold.toml` in the source is one to begin with; `leasehold dev` needs none"
        }
        _ => "it must be a text file that this user may read",
    }
}

fn read(file: &Path) -> io::Result<String> {
    if fs::metadata(file)?.len() > MAX_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    fs::read_to_string(file)
}

/// Every part is read before one that is wrong makes the whole wrong.
fn config(document: &Document<'_>, table: &DeTable<'_>) -> Option<Config> {
    let mut root = Section::root(document, table);
    let trust_domain =
        root.required("trust_domain", "trust_domain = \"leasehold.example\"", value::trust_domain);
    let base_url =
        root.required("base_url", "base_url = \"https://leasehold.example:7701\"", base_url);
    let example = "store = { kind = \"embedded\", path = \"data\" }";
    let store = root.required("store", example, value::table(store::read));
    let listen = root.or("listen", Listen::default(), value::table(listen::read));
    let example = "tls = { cert_file = \"tls/broker.pem\", key_file = \"tls/broker.key\" }";
    let tls = root.required("tls", example, value::table(listen::tls));
    let example = "tiers = { standard = { ttl = \"5m\", ceiling = \"1h\" } }";
    let tiers = root.required("tiers", example, tiers::read);
    let (own, own_url) = (trust_domain.as_ref(), base_url.as_deref());
    let trust =
        root.required("trust", "[[trust.spiffe]]", value::table(|s| trust::read(s, own, own_url)));
    let roles = roles(&mut root, tiers.as_deref(), trust.as_ref());
    let dpop = root.or("dpop", Dpop::default(), value::table(dpop::read));
    let crl = root.or("crl", Crl::default(), value::table(crl::read));
    let example = "keys = { encryption_key_file = \"keyring.key\" }";
    let keys = root.required("keys", example, value::table(keys::read));
    let feed = root.or("feed", Feed::default(), value::table(feed::read));
    let names = tiers.as_ref().map(|tiers| tiers.iter().map(|tier| tier.name.clone()).collect());
    let known = webhooks::Known::of(roles.as_deref(), names);
    let webhooks = root.or("webhooks", Vec::new(), |field| webhooks::read(field, &known));
    let limits = root.or("limits", Limits::default(), value::table(limits::read));
    let log = root.or("log", Log::default(), value::table(limits::log));
    root.finish();
    Some(Config {
        trust_domain: trust_domain?,
        base_url: base_url?,
        store: store?,
        listen: listen?,
        tls: tls?,
        tiers: tiers?,
        trust: trust?,
        roles: roles?,
        dpop: dpop?,
        crl: crl?,
        keys: keys?,
        feed: feed?,
        webhooks: webhooks?,
        limits: limits?,
        log: log?,
        warnings: Vec::new(),
    })
}

/// What the entries could refer to is known only if it is sound itself; otherwise their form alone is checked.
fn roles(
    root: &mut Section<'_>,
    tiers: Option<&[Tier]>,
    trust: Option<&Trust>,
) -> Option<Vec<RoleEntry>> {
    let known = roles::Known {
        tiers: tiers.map(|tiers| tiers.iter().map(|tier| tier.name.clone()).collect()),
        issuers: trust.map(|trust| trust.oidc.iter().map(|i| i.name.clone()).collect()),
        domains: trust.map(|trust| trust.spiffe.iter().map(|d| d.trust_domain.clone()).collect()),
    };
    let entries = value::list(value::table(|section| roles::read(section, &known)));
    let entries = root.required("roles", "[[roles]]", entries)?;
    let field = root.field("roles")?;
    let lasting = lasting::check(&field, &entries, trust.map_or(&[], |trust| &trust.oidc));
    overlap::check(&field, &entries)?;
    lasting?;
    Some(entries)
}

fn base_url(field: &Field<'_>) -> Option<String> {
    let url = value::https_url(field)?;
    if url.matches('/').count() != 2 {
        let url = value::presentable(&url);
        return field
            .refuse(format!("is `{url}`; write it without a path and without `/` at its end"));
    }
    Some(url)
}

#[cfg(test)]
mod tests;
