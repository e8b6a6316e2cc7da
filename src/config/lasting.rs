//! Role entries that hold on to names which their platform gives again to others, or to what a caller says about itself.

use super::document::Field;
use super::section::{Section, list};
use super::trust::TrustedIssuer;
use crate::domain::platform::Platform;
use crate::domain::role::{Pattern, RoleEntry};

/// Refuses entries that match what the caller chose; warns of those that name nobody for good.
pub(super) fn check(
    roles: &Field<'_>,
    entries: &[RoleEntry],
    issuers: &[TrustedIssuer],
) -> Option<()> {
    let mut sound = Some(());
    for (n, entry) in entries.iter().enumerate() {
        let Pattern::Oidc { issuer, subject, claims } = &entry.pattern else { continue };
        let issuer = issuers.iter().find(|trusted| trusted.name == *issuer);
        let Some(platform) = issuer.and_then(|trusted| trusted.preset) else { continue };
        let element = roles.element(n);
        let chosen = claims.keys().filter(|claim| platform.is_callers_choice(claim));
        for claim in chosen {
            sound = refuse(&element, claim);
        }
        let names = |claim: &str| claims.contains_key(claim) || claim == "sub" && subject.is_some();
        if let Some(advised) = missing(platform, names) {
            element.warn(format!(
                "names its workload by what can be given to another; add {} to `claims`",
                list(advised)
            ));
        }
    }
    sound
}

/// What to add, unless the names that an entry has are a workload's for good.
fn missing(
    platform: Platform,
    has: impl Fn(&str) -> bool,
) -> Option<impl Iterator<Item = &'static str>> {
    let sets = platform.lasting();
    let is_lasting = sets.iter().any(|set| set.iter().all(|claim| has(claim)));
    let advised = sets.first().filter(|_| !is_lasting)?;
    Some(advised.iter().copied().filter(move |claim| !has(claim)))
}

fn refuse(element: &Field<'_>, claim: &str) -> Option<()> {
    let claims = Section::of(element)?.field("claims")?;
    let field = Section::of(&claims)?.field(claim)?;
    field.refuse("is whatever the caller asks for, and proves nothing about it; match what AWS attests, like `sub`")
}
