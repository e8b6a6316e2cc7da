//! `[crl]`: lists of revoked certificates, for verifiers that do not subscribe (RFC 5280 section 5).

use super::section::Section;
use super::value;
use crate::domain::time::Span;

/// How old a revocation list may be, and how long it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crl {
    /// No list is served that was made longer ago; 1 s to 30 s.
    pub max_age: Span,
    /// How long a list holds after it was made; 1 min to 24 h.
    pub lifetime: Span,
}

impl Default for Crl {
    fn default() -> Self {
        Self { max_age: Span::from_seconds(10), lifetime: Span::from_seconds(300) }
    }
}

pub(super) fn read(section: &mut Section<'_>) -> Option<Crl> {
    let default = Crl::default();
    let seconds =
        |least, most| value::duration(Span::from_seconds(least)..=Span::from_seconds(most));
    let max_age = section.or("max_age", default.max_age, seconds(1, 30));
    let lifetime = section.or("lifetime", default.lifetime, seconds(60, 86_400));
    Some(Crl { max_age: max_age?, lifetime: lifetime? })
}
