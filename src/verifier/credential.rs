//! A credential whose own words hold: signed by the broker, of its kind, with every claim. Whether it lives is judged each time.

use crate::domain::execution::Execution;
use crate::domain::grant::Grant;
use crate::domain::id::Partition;
use crate::domain::lattice::Facts;
use crate::domain::principal::Principal;
use crate::domain::scope::Reach;
use crate::domain::time::Stamp;
use crate::jose::access_token::{AccessToken, Confirmation};
use crate::spiffe::id::SpiffeId;
use crate::spiffe::task_certificate::TaskCertificate;

/// A credential of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    kind: Kind,
    reach: Vec<Reach>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Token(AccessToken),
    Certificate(TaskCertificate),
}

impl From<AccessToken> for Credential {
    fn from(token: AccessToken) -> Self {
        Self { reach: token.full_reach(), kind: Kind::Token(token) }
    }
}

impl From<TaskCertificate> for Credential {
    fn from(certificate: TaskCertificate) -> Self {
        Self { reach: certificate.full_reach(), kind: Kind::Certificate(certificate) }
    }
}

impl Credential {
    /// Task, path, lease, tier, step and Δ.
    pub fn execution(&self) -> &Execution {
        match &self.kind {
            Kind::Token(token) => &token.execution,
            Kind::Certificate(certificate) => &certificate.execution,
        }
    }

    /// The access token, if it is one.
    pub fn token(&self) -> Option<&AccessToken> {
        match &self.kind {
            Kind::Token(token) => Some(token),
            Kind::Certificate(_) => None,
        }
    }

    /// The agent of the task: `client_id` of a token. A certificate does not name it.
    pub fn agent(&self) -> Option<&Principal> {
        self.token().map(AccessToken::client)
    }

    /// Whom a certificate names: `spiffe://<td>/task/<task>/e/<epoch>/<class>`.
    pub fn spiffe_id(&self) -> Option<&SpiffeId> {
        match &self.kind {
            Kind::Token(_) => None,
            Kind::Certificate(certificate) => Some(&certificate.spiffe_id),
        }
    }

    /// What it allows. Of a certificate only its lease says that, which the broker knows: by introspection.
    pub fn grant(&self) -> Option<&Grant> {
        self.token().map(|token| &token.grant)
    }

    /// What a token's bearer must show besides.
    pub fn confirmation(&self) -> Option<Confirmation> {
        self.token().and_then(|token| token.confirmation)
    }

    /// `jti`: the name of this one credential.
    pub fn jti(&self) -> [u8; 16] {
        match &self.kind {
            Kind::Token(token) => token.jti,
            Kind::Certificate(certificate) => certificate.jti,
        }
    }

    /// The first instant at which it is no longer valid.
    pub fn expires(&self) -> Stamp {
        match &self.kind {
            Kind::Token(token) => Stamp::from_seconds(token.expires_seconds),
            Kind::Certificate(certificate) => certificate.expires,
        }
    }

    /// Whether its grant has an action at an audience.
    pub fn allows(&self, audience: &str, action: &str) -> bool {
        let entries = self.grant().map(Grant::entries).unwrap_or_default();
        entries.iter().any(|e| e.audience() == audience && e.actions().contains(action))
    }

    pub(super) fn partition(&self) -> Partition {
        self.execution().path.own().task.partition()
    }

    /// What revocation can hit of it.
    pub(super) fn facts(&self) -> Facts<'_> {
        self.execution().facts(&self.reach)
    }
}
