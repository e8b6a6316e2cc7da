//! What a verifier is told when it starts.

use std::path::PathBuf;

use super::check::Rules;

/// The longest name, in bytes.
const MAX_NAME_BYTES: usize = 253;

/// What a verifier is told when it starts. [`Settings::new`] has the careful choice for whatever it does not ask.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where brokers answer gRPC: `https://…`. One is enough to be fresh; with more, one may be away.
    pub brokers: Vec<String>,
    /// Who we are to them.
    pub identity: Identity,
    /// What operators call this verifier, at most 253 bytes; empty: its principal.
    pub name: String,
    /// The only `iss` to take; `None`: what the broker says that it is.
    pub issuer: Option<String>,
    /// By which rules credentials are checked.
    pub rules: Rules,
    /// What happens while the view is too old.
    pub when_stale: WhenStale,
}

/// The files of a client identity, in PEM. They are read again at every connection, so rotation needs no restart.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The authority that issued the brokers' certificates.
    pub ca_file: PathBuf,
    /// Our certificate with its chain, leaf first. Its principal needs the role `verifier` and the audience.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// What happens while what is known of revocations is older than a credential allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenStale {
    /// It is refused.
    #[default]
    Refuse,
    /// A broker is asked, which reads the store; whatever is not a clear yes is a no.
    Introspect,
}

/// A verifier cannot start with such settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Nobody to ask.
    #[error("name at least one broker, like `https://leasehold.example:7700`")]
    NoBroker,
    /// Not an address of a broker.
    #[error("`{0}` is not the address of a broker; write it like `https://leasehold.example:7700`")]
    Address(String),
    /// Tokens for nobody would be taken.
    #[error("say which audience tokens must be for")]
    NoAudience,
    /// The contract allows no longer one.
    #[error("a verifier's name has at most {MAX_NAME_BYTES} bytes")]
    Name,
}

impl Settings {
    /// Of a verifier for one audience, which refuses what it cannot know, and takes nothing that is bound to nothing.
    pub fn new(
        brokers: impl IntoIterator<Item = impl Into<String>>,
        identity: Identity,
        audience: impl Into<String>,
    ) -> Self {
        Self {
            brokers: brokers.into_iter().map(Into::into).collect(),
            identity,
            name: String::new(),
            issuer: None,
            rules: Rules::new(audience),
            when_stale: WhenStale::default(),
        }
    }

    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if self.brokers.is_empty() {
            return Err(SettingsError::NoBroker);
        }
        let is_address =
            |text: &&String| text.starts_with("https://") && text.parse::<http::Uri>().is_ok();
        if let Some(address) = self.brokers.iter().find(|text| !is_address(text)) {
            return Err(SettingsError::Address(address.clone()));
        }
        if self.rules.audience.is_empty() {
            return Err(SettingsError::NoAudience);
        }
        if self.name.len() > MAX_NAME_BYTES { Err(SettingsError::Name) } else { Ok(()) }
    }
}
