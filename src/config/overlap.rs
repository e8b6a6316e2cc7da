//! What entries of `[[roles]]` say about one another.

use super::document::Field;
use crate::domain::principal::{Name, SpiffePattern};
use crate::domain::role::{AgentClass, Pattern, Role, RoleEntry};

/// Refuses one class with two meanings; warns of what is probably not meant.
pub(super) fn check(roles: &Field<'_>, entries: &[RoleEntry]) -> Option<()> {
    let agents = || entries.iter().enumerate().filter_map(|(n, e)| Some((n, e, class(&e.role)?)));
    let mut consistent = Some(());
    for (n, entry, own) in agents() {
        for (earlier, other, known) in agents().take_while(|(earlier, _, _)| *earlier < n) {
            let name = &own.name;
            if *name == known.name && own != known {
                consistent = roles.element(n).refuse(format!(
                    "gives the class `{name}` another owner or other tiers than `roles[{earlier}]`; make them the same, \
                     or two classes"
                ));
            }
            if *name != known.name && overlaps(&entry.pattern, &other.pattern) {
                roles.element(n).warn(format!(
                    "can match principals that `roles[{earlier}]` matches too, of class `{}`; their calls are refused, so \
                     narrow one pattern",
                    known.name
                ));
            }
        }
    }
    let named =
        || entries.iter().enumerate().filter_map(|(n, e)| Some((n, orchestrator(&e.role)?)));
    for (n, name) in named() {
        if let Some((earlier, _)) = named().find(|(earlier, other)| *earlier < n && *other == name)
        {
            roles.element(n).warn(format!(
                "has the `name` of `roles[{earlier}]`; whoever matches one drives the tasks of the other"
            ));
        }
    }
    if !entries.iter().any(|entry| entry.role == Role::Operator) {
        roles.warn("has no operator; nobody could quarantine or revoke");
    }
    consistent
}

fn class(role: &Role) -> Option<&AgentClass> {
    match role {
        Role::Agent(class) => Some(class),
        Role::Orchestrator(_) | Role::Operator | Role::Approver | Role::Verifier(_) => None,
    }
}

fn orchestrator(role: &Role) -> Option<&Name> {
    match role {
        Role::Orchestrator(name) => Some(name),
        Role::Agent(_) | Role::Operator | Role::Approver | Role::Verifier(_) => None,
    }
}

/// Whether one principal could match both.
fn overlaps(one: &Pattern, other: &Pattern) -> bool {
    match (one, other) {
        (Pattern::Spiffe(one), Pattern::Spiffe(other)) => match (one, other) {
            (SpiffePattern::Below(a), SpiffePattern::Below(b)) => {
                a.starts_with(&**b) || b.starts_with(&**a)
            }
            (pattern, SpiffePattern::Exact(id)) | (SpiffePattern::Exact(id), pattern) => {
                pattern.matches(id)
            }
        },
        (
            Pattern::Oidc { issuer: a, subject: one, claims },
            Pattern::Oidc { issuer: b, subject: other, claims: others },
        ) => {
            a == b
                && (one.is_none() || other.is_none() || one == other)
                && claims.iter().all(|(name, value)| others.get(name).is_none_or(|v| v == value))
        }
        (Pattern::Spiffe(_), Pattern::Oidc { .. }) | (Pattern::Oidc { .. }, Pattern::Spiffe(_)) => {
            false
        }
    }
}
