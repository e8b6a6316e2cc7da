//! A small world to try the broker in: a trust domain, an OIDC issuer, callers with identities, and a complete configuration.
//!
//! Everything in it is made new in one folder, which only its owner can read. Nothing outside trusts it, and nobody can add
//! to it: the root's private key is forgotten once every workload has its certificate.

mod authority;
mod files;
mod issuer;
mod settings;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use self::issuer::{Issuer, IssuerError};

use self::authority::DevAuthority;
use crate::broker::seams::{Entropy, EntropyError};
use crate::domain::secret::Secret;
use crate::domain::time::{Span, Stamp};

/// The trust domain of its workloads.
pub const TRUST_DOMAIN: &str = "dev.example";
/// The trust domain of its broker, which certificates for tasks belong to.
pub const BROKER_TRUST_DOMAIN: &str = "leasehold.example";
/// The one resource that agents are let in to.
pub const AUDIENCE: &str = "https://documents.dev.example";
/// `delta_max` of its store: so long after its start a broker knows every verifier, and the shorter the sooner.
pub const DELTA_MAX: Span = Span::from_seconds(1);
/// How long its identities are valid.
pub const LIFE: Span = Span::from_seconds(30 * 24 * 60 * 60);

/// Who lives in it. Each has `<name>.pem` and `<name>.key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Begins and drives tasks.
    Orchestrator,
    /// An agent of class `summarizer`.
    Summarizer,
    /// An agent of class `researcher`, for parts of the summarizer's tasks.
    Researcher,
    /// The resource server at [`AUDIENCE`]: a verifier. Its certificate is good for `localhost` too.
    Documents,
    /// Holds the kill switch.
    Operator,
}

/// What a playground is made for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the broker will answer gRPC.
    pub grpc: SocketAddr,
    /// Where the broker will answer HTTP. Callers reach it as `localhost`.
    pub http: SocketAddr,
    /// Where the broker keeps what it knows.
    pub store: PlaygroundStore,
    /// Last segment of the agents' SPIFFE IDs, so that two playgrounds over one store have different agents.
    pub instance: String,
}

/// The store of a playground.
#[derive(Clone, Debug)]
pub enum PlaygroundStore {
    /// In the playground's folder, sealed under a key that is made with it.
    Embedded,
    /// A Redis server on this machine, by its URL.
    Redis {
        /// `redis://…`.
        url: String,
        /// Seals the keyring there. The same for every playground that shares the server.
        key: Secret,
    },
}

/// A folder with a playground in it.
#[derive(Clone, Debug)]
pub struct Playground {
    dir: PathBuf,
}

/// A playground cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PlaygroundError {
    /// A file or the folder.
    #[error("`{}`: {fault}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        fault: io::Error,
    },
    /// Something else lies there.
    #[error("`{}` is neither empty nor a playground; name another folder", .0.display())]
    Occupied(PathBuf),
    /// No certificate could be made.
    #[error("no certificate for `{0}`: {1}")]
    Certificate(String, rcgen::Error),
    /// The issuer.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Orchestrator, Self::Summarizer, Self::Researcher, Self::Documents, Self::Operator];

    /// The name of its files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Orchestrator => "orchestrator",
            Self::Summarizer => "summarizer",
            Self::Researcher => "researcher",
            Self::Documents => "documents",
            Self::Operator => "operator",
        }
    }

    /// Its SPIFFE ID in a playground of this instance.
    pub fn spiffe_id(self, instance: &str) -> String {
        match self {
            Self::Orchestrator => format!("spiffe://{TRUST_DOMAIN}/orchestrator"),
            Self::Summarizer | Self::Researcher => {
                format!("spiffe://{TRUST_DOMAIN}/agents/{}/{instance}", self.name())
            }
            Self::Documents => format!("spiffe://{TRUST_DOMAIN}/api/documents"),
            Self::Operator => format!("spiffe://{TRUST_DOMAIN}/people/operator"),
        }
    }
}

impl Playground {
    /// Makes everything, in a folder that is empty or not there yet.
    ///
    /// # Errors
    /// [`PlaygroundError`] says what could not be made.
    pub fn make(
        dir: &Path,
        plan: &Plan,
        now: Stamp,
        entropy: &dyn Entropy,
    ) -> Result<Self, PlaygroundError> {
        files::make_dir(dir)?;
        let dir = dir.canonicalize().map_err(files::at(dir))?;
        let playground = Self { dir };
        let authority = DevAuthority::make(now)?;
        files::write(&playground.root_file(), authority.pem().as_bytes())?;
        for workload in Workload::ALL {
            let issued = authority.workload(workload, &plan.instance)?;
            files::write(&playground.cert_file(workload), issued.chain_pem.as_bytes())?;
            files::write(&playground.key_file(workload), issued.key_pem.expose())?;
        }
        let broker = authority.broker()?;
        files::write(&playground.file("broker.pem"), broker.chain_pem.as_bytes())?;
        files::write(&playground.file("broker.key"), broker.key_pem.expose())?;
        Issuer::make(&playground.dir)?;
        let key = match &plan.store {
            PlaygroundStore::Embedded => random_key(entropy)?,
            PlaygroundStore::Redis { key, .. } => key.clone(),
        };
        files::write(&playground.file("keyring.key"), key.expose())?;
        // Last, since it is what tells a playground from the beginning of one.
        files::write(&playground.config_file(), settings::text(plan).as_bytes())?;
        Ok(playground)
    }

    /// The playground in a folder; `None` if there is nothing in it, or no folder.
    ///
    /// # Errors
    /// [`PlaygroundError::Occupied`] if there is something else.
    pub fn find(dir: &Path) -> Result<Option<Self>, PlaygroundError> {
        let mut inside = match dir.read_dir() {
            Ok(inside) => inside,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(fault) => return Err(files::at(dir)(fault)),
        };
        let found = Self { dir: dir.canonicalize().map_err(files::at(dir))? };
        match inside.next() {
            None => Ok(None),
            Some(_) if found.config_file().is_file() && found.root_file().is_file() => {
                Ok(Some(found))
            }
            Some(_) => Err(PlaygroundError::Occupied(dir.to_owned())),
        }
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The broker's configuration.
    pub fn config_file(&self) -> PathBuf {
        self.file("leasehold.toml")
    }

    /// The root of the trust domain, in PEM: workloads' and the broker's certificates lead to it.
    pub fn root_file(&self) -> PathBuf {
        self.file("root.pem")
    }

    /// A workload's certificate, in PEM.
    pub fn cert_file(&self, workload: Workload) -> PathBuf {
        self.file(&format!("{}.pem", workload.name()))
    }

    /// The private key of a workload's certificate, in PEM.
    pub fn key_file(&self, workload: Workload) -> PathBuf {
        self.file(&format!("{}.key", workload.name()))
    }

    /// Its OIDC issuer.
    ///
    /// # Errors
    /// [`PlaygroundError`] if the issuer's key cannot be read.
    pub fn issuer(&self) -> Result<Issuer, PlaygroundError> {
        Issuer::open(&self.dir)
    }

    /// Adds a file to the folder.
    ///
    /// # Errors
    /// [`PlaygroundError::File`], also if there is one of that name.
    pub fn add(&self, name: &str, contents: &[u8]) -> Result<PathBuf, PlaygroundError> {
        let path = self.file(name);
        files::write(&path, contents)?;
        Ok(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn random_key(entropy: &dyn Entropy) -> Result<Secret, PlaygroundError> {
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    entropy.fill(bytes.as_mut())?;
    Ok(Secret::from(STANDARD.encode(bytes.as_ref())))
}

#[cfg(test)]
mod tests;
