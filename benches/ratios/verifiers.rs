//! Verifiers with the library, each with a stream of its own to the broker.

use leasehold::jose::certificate_thumbprint;
use leasehold::playground::{AUDIENCE, Workload};
use leasehold::verifier::{Identity, Presented, Refused, Rules, Scheme, Settings, Verifier};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Outcome;
use crate::world::World;

/// Verifiers that are fresh, and what the agent shows them beside its tokens.
pub(crate) struct Verifiers {
    all: Vec<Verifier>,
    certificate: [u8; 32],
}

impl Verifiers {
    /// So many, with the library's own rules.
    pub(crate) async fn start(world: &World, count: usize) -> Outcome<Self> {
        Self::with_rules(world, count, &Rules::new(AUDIENCE)).await
    }

    /// The same with other rules.
    pub(crate) async fn with_rules(world: &World, count: usize, rules: &Rules) -> Outcome<Self> {
        let files = &world.playground;
        let leaf = CertificateDer::from_pem_file(files.cert_file(Workload::Summarizer))?;
        let mut all = Vec::with_capacity(count);
        for number in 0..count {
            let identity = Identity {
                ca_file: files.root_file(),
                cert_file: files.cert_file(Workload::Documents),
                key_file: files.key_file(Workload::Documents),
            };
            let broker = format!("https://{}", world.address());
            let mut settings = Settings::new([broker], identity, AUDIENCE);
            settings.name = format!("documents-{number}");
            settings.rules = rules.clone();
            all.push(Verifier::start(settings)?);
        }
        for verifier in &all {
            verifier.ready().await;
        }
        Ok(Self { all, certificate: certificate_thumbprint(&leaf) })
    }

    /// The first one.
    pub(crate) fn first(&self) -> Outcome<&Verifier> {
        self.all.first().ok_or_else(|| "no verifier was asked for".into())
    }

    /// A token as its agent shows it.
    pub(crate) fn shown<'t>(&self, token: &'t str) -> Presented<'t> {
        shown(token, self.certificate)
    }

    /// Watches until none of them lets the token in any more; each has let it in before this answers.
    pub(crate) fn watch(&self, token: &str) -> Outcome<Watched> {
        let mut watching = JoinSet::new();
        for verifier in &self.all {
            verifier.check(&self.shown(token))?;
            let (verifier, token, certificate) =
                (verifier.clone(), token.to_owned(), self.certificate);
            watching.spawn(async move { refused(&verifier, &shown(&token, certificate)).await });
        }
        Ok(Watched(watching))
    }
}

/// Verifiers that let a token in.
pub(crate) struct Watched(JoinSet<Outcome<Instant>>);

impl Watched {
    /// When the first and the last of them refused it.
    pub(crate) async fn all_refused(mut self) -> Outcome<[Instant; 2]> {
        let mut refused = Vec::new();
        while let Some(at) = self.0.join_next().await {
            refused.push(at??);
        }
        let ends = refused.iter().min().zip(refused.iter().max());
        ends.map(|(first, last)| [*first, *last]).ok_or_else(|| "no verifier was asked for".into())
    }
}

fn shown(token: &str, certificate: [u8; 32]) -> Presented<'_> {
    Presented {
        scheme: Scheme::Bearer,
        token,
        certificate: Some(certificate),
        proof: None,
        request: ("GET", "/report"),
        actions: &["read"],
    }
}

/// When a verifier first refused, having checked at each change of its view.
async fn refused(verifier: &Verifier, shown: &Presented<'_>) -> Outcome<Instant> {
    let mut changes = verifier.checker().mirror().published();
    loop {
        match verifier.check(shown) {
            Ok(admission) => drop(admission),
            Err(Refused::Dead(_)) => return Ok(Instant::now()),
            Err(other) => return Err(other.into()),
        }
        changes.changed().await?;
    }
}
