//! What goes with a refusal over HTTP: its status, OAuth's word for it, and the headers that say how to do better (RFC 6750
//! section 3, RFC 9449 sections 7.1 and 8).

use http::header::WWW_AUTHENTICATE;
use http::{HeaderName, StatusCode};

use super::check::{Checker, Scheme};
use super::refused::{Fault, Refused};
use crate::clock::Present;
use crate::jose::dpop::DpopError;

/// What proofs may be signed with, as the challenge lists it.
const PROOF_ALGORITHMS: &str = "ES256 ES384 RS256 RS384 RS512 PS256 PS384 PS512";
/// The header with a nonce for the next proof.
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

impl Refused {
    /// The status that goes with it.
    pub fn status(&self) -> StatusCode {
        match self.fault() {
            Fault::Request => StatusCode::BAD_REQUEST,
            Fault::Nothing | Fault::Credential | Fault::Proof => StatusCode::UNAUTHORIZED,
            Fault::Scope => StatusCode::FORBIDDEN,
            Fault::Unknown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// `error` of OAuth; `None` where nothing was shown, which is no error (RFC 6750 section 3.1).
    pub fn error(&self) -> Option<&'static str> {
        match self.fault() {
            _ if *self == Self::Proof(DpopError::Nonce) => Some("use_dpop_nonce"),
            Fault::Nothing => None,
            Fault::Request => Some("invalid_request"),
            Fault::Credential => Some("invalid_token"),
            Fault::Proof => Some("invalid_dpop_proof"),
            Fault::Scope => Some("insufficient_scope"),
            Fault::Unknown => Some("temporarily_unavailable"),
        }
    }
}

impl Checker {
    /// The headers to answer with: `WWW-Authenticate`, and a nonce where the next proof must have one. `scheme`: by which the
    /// token came.
    pub fn challenges(
        &self,
        refused: &Refused,
        scheme: Scheme,
        present: Present,
    ) -> Vec<(HeaderName, String)> {
        let fault = refused.fault();
        let challenge = |text: String| (WWW_AUTHENTICATE, text);
        let error = refused.error().unwrap_or_default();
        let description = quoted(&refused.to_string());
        let told = format!("error=\"{error}\", error_description=\"{description}\"");
        let algorithms = format!("algs=\"{PROOF_ALGORITHMS}\"");
        let takes_proofs = !self.rules().targets.is_empty();
        let mut headers = match (fault, scheme) {
            (Fault::Unknown, _) => Vec::new(),
            (Fault::Nothing, _) if takes_proofs => {
                vec![challenge("Bearer".to_owned()), challenge(format!("DPoP {algorithms}"))]
            }
            (Fault::Nothing, _) => vec![challenge("Bearer".to_owned())],
            (_, Scheme::Dpop) => vec![challenge(format!("DPoP {told}, {algorithms}"))],
            (_, Scheme::Bearer) => vec![challenge(format!("Bearer {told}"))],
        };
        let is_about_proofs = fault == Fault::Proof || fault == Fault::Nothing && takes_proofs;
        let wants = match *refused {
            Refused::Proof(DpopError::Nonce) => true,
            _ => is_about_proofs && self.nonces().are_always_demanded(),
        };
        if wants {
            let now = self.mirror().now(&self.mirror().view(), present);
            let nonce = self.nonces().fresh(now, present.moment);
            headers.extend(nonce.map(|nonce| (DPOP_NONCE, nonce)));
        }
        headers
    }
}

/// In the characters that a description may have (RFC 6750 section 3).
fn quoted(text: &str) -> String {
    let allowed = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
    text.chars().map(|c| if allowed(c) { c } else { '?' }).collect()
}
