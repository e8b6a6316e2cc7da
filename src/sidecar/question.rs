//! One question, however it came: may this be let in? And the no, if not.

use axum::http::{HeaderName, StatusCode};

use super::Sidecar;
use crate::telemetry::metrics;
use crate::verifier::{Admission, Presented, Refused, Scheme};

/// What somebody shows, as the surface found it.
#[derive(Clone, Copy)]
pub(super) struct Question<'q> {
    /// The value of `Authorization`, if there is one.
    pub(super) authorization: Option<&'q str>,
    /// The value of `DPoP`, if there is one.
    pub(super) proof: Option<&'q str>,
    /// SHA-256 of the client certificate.
    pub(super) certificate: Option<[u8; 32]>,
    /// The method.
    pub(super) method: &'q str,
    /// The path; what stands behind `?` or `#` does not count.
    pub(super) path: &'q str,
    /// What the grant must have, all of it.
    pub(super) actions: &'q [&'q str],
}

/// Why something is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// By a rule of the verifier's.
    Refused(Refused),
    /// More runs than can be remembered, and none is let in that could not be.
    Full,
}

/// Something is not let in.
#[derive(Clone, Debug)]
pub(super) struct No {
    pub(super) why: Why,
    /// The headers to answer with.
    pub(super) headers: Vec<(HeaderName, String)>,
}

impl No {
    pub(super) fn full() -> Self {
        Self { why: Why::Full, headers: Vec::new() }
    }

    pub(super) fn status(&self) -> StatusCode {
        match &self.why {
            Why::Refused(refused) => refused.status(),
            Why::Full => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// OAuth's word; `None` where nothing was shown.
    pub(super) fn error(&self) -> Option<&'static str> {
        match &self.why {
            Why::Refused(refused) => refused.error(),
            Why::Full => Some("temporarily_unavailable"),
        }
    }

    pub(super) fn reason(&self) -> &'static str {
        match &self.why {
            Why::Refused(refused) => refused.reason(),
            Why::Full => "RATE_LIMITED",
        }
    }

    pub(super) fn message(&self) -> String {
        match &self.why {
            Why::Refused(refused) => refused.to_string(),
            Why::Full => "more requests run than the sidecar can remember; try again".to_owned(),
        }
    }

    pub(super) fn is_retriable(&self) -> bool {
        match &self.why {
            Why::Refused(refused) => refused.is_retriable(),
            Why::Full => true,
        }
    }
}

impl Sidecar {
    /// Checks once, now.
    pub(super) async fn ask(&self, question: Question<'_>) -> Result<Admission, No> {
        let nothing = || self.refuse(Refused::Nothing, Scheme::Bearer);
        let authorization = question.authorization.ok_or_else(nothing)?;
        let (scheme, token) = Scheme::read(authorization)
            .map_err(|(refused, scheme)| self.refuse(refused, scheme))?;
        let shown = Presented {
            scheme,
            token,
            certificate: question.certificate,
            proof: question.proof,
            request: (question.method, path_of(question.path)),
            actions: question.actions,
        };
        let admitted = self.parts.verifier.admit(&shown).await;
        admitted.map_err(|refused| self.refuse(refused, scheme))
    }

    /// A no by a rule of the verifier's. `scheme`: by which the token came.
    pub(super) fn refuse(&self, refused: Refused, scheme: Scheme) -> No {
        let headers = self.parts.verifier.challenges(&refused, scheme);
        No { why: Why::Refused(refused), headers }
    }

    /// What is counted of an answer.
    pub(super) fn answered<T>(surface: &'static str, answer: &Result<T, No>) {
        metrics::sidecar_answered(surface, answer.as_ref().map_or_else(No::reason, |_| "admitted"));
    }
}

/// Without query and fragment (RFC 9449 section 4.2).
fn path_of(target: &str) -> &str {
    target.split(['?', '#']).next().unwrap_or_default()
}
