//! Roles: what configuration lets principals do, by pattern (FORMATS.md, Role patterns).

use std::collections::BTreeMap;

use crate::domain::principal::{Name, Principal, SpiffePattern};
use crate::domain::refusal::Refusal;
use crate::domain::task::Agent;

/// Which principals an entry is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// A SPIFFE ID, or all below one.
    Spiffe(SpiffePattern),
    /// Tokens of one issuer: this exact subject, these exact claims, or both. Never neither.
    Oidc {
        /// Name of the issuer.
        issuer: Name,
        /// The exact subject.
        subject: Option<String>,
        /// Claims with exact values.
        claims: BTreeMap<String, String>,
    },
}

/// What an entry gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// May do tasks.
    Agent(AgentClass),
    /// May begin and drive tasks; tasks belong to the entry of this name.
    Orchestrator(Name),
    /// Holds the kill switch.
    Operator,
    /// Decides approvals.
    Approver,
    /// Accepts credentials for these audiences.
    Verifier(Vec<String>),
}

/// An agent role entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentClass {
    /// The class.
    pub name: Name,
    /// Who answers for it.
    pub owner: String,
    /// The tiers that it may use.
    pub tiers: Vec<Name>,
}

/// One `[[roles]]` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleEntry {
    /// For whom.
    pub pattern: Pattern,
    /// What.
    pub role: Role,
}

/// Every role of one principal. None at all gets nothing but the public documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// The one agent class.
    pub agent: Option<AgentClass>,
    /// Orchestrator entries, in the order of the configuration; what it begins belongs to the first.
    pub orchestrator: Vec<Name>,
    /// Whether it is an operator.
    pub operator: bool,
    /// Whether it is an approver.
    pub approver: bool,
    /// Whether it is a verifier.
    pub verifier: bool,
    /// The audiences that it verifies for.
    pub audiences: Vec<String>,
}

impl Pattern {
    /// Whether the entry is for this principal, whose token, if it is an OIDC one, has these claims.
    pub fn matches(&self, principal: &Principal, claims: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Spiffe(pattern) => pattern.matches(principal),
            Self::Oidc { issuer, subject, claims: wanted } => {
                (subject.is_some() || !wanted.is_empty())
                    && principal.issuer() == Some(issuer.as_str())
                    && subject.as_deref().is_none_or(|s| principal.subject() == Some(s))
                    && wanted.iter().all(|(name, value)| claims.get(name) == Some(value))
            }
        }
    }

    /// Whether the entry could be for this principal, whatever claims its token has.
    pub fn may_match(&self, principal: &Principal) -> bool {
        match self {
            Self::Spiffe(pattern) => pattern.matches(principal),
            Self::Oidc { issuer, subject, .. } => {
                principal.issuer() == Some(issuer.as_str())
                    && subject.as_deref().is_none_or(|s| principal.subject() == Some(s))
            }
        }
    }
}

/// The roles of a principal.
///
/// # Errors
/// [`Refusal::PolicyDenied`] if it matches two agent classes: which one counts would be a guess.
pub fn roles(
    entries: &[RoleEntry],
    principal: &Principal,
    claims: &BTreeMap<String, String>,
) -> Result<Roles, Refusal> {
    let mut roles = Roles::default();
    for entry in entries.iter().filter(|entry| entry.pattern.matches(principal, claims)) {
        match &entry.role {
            Role::Agent(class) => match &roles.agent {
                Some(known) if known.name != class.name => {
                    return Err(Refusal::PolicyDenied(format!(
                        "`{principal}` matches two agent classes, `{}` and `{}`; an operator must narrow one `match`",
                        known.name, class.name
                    )));
                }
                Some(_) => {}
                None => roles.agent = Some(class.clone()),
            },
            Role::Orchestrator(name) => roles.orchestrator.push(name.clone()),
            Role::Operator => roles.operator = true,
            Role::Approver => roles.approver = true,
            Role::Verifier(audiences) => {
                roles.verifier = true;
                roles.audiences.extend(audiences.iter().cloned());
            }
        }
    }
    Ok(roles)
}

/// The one agent class that a task's agent belongs to: all that `agent` covers must be of it.
///
/// # Errors
/// [`Refusal::RequestInvalid`] if no class, or more than one, covers the agent.
pub fn class_of<'a>(entries: &'a [RoleEntry], agent: &Agent) -> Result<&'a AgentClass, Refusal> {
    let covers = |entry: &'a RoleEntry| match &entry.role {
        Role::Agent(class) if covers(&entry.pattern, &class.name, agent) => Some(class),
        Role::Agent(_)
        | Role::Orchestrator(_)
        | Role::Operator
        | Role::Approver
        | Role::Verifier(_) => None,
    };
    let mut classes = entries.iter().filter_map(covers);
    let first = classes.next().ok_or_else(|| {
        Refusal::invalid("agent", format!("no agent class of the configuration covers `{agent}`"))
    })?;
    match classes.find(|class| class.name != first.name) {
        None => Ok(first),
        Some(other) => Err(Refusal::invalid(
            "agent",
            format!("`{agent}` is of two agent classes, `{}` and `{}`", first.name, other.name),
        )),
    }
}

fn covers(pattern: &Pattern, class: &Name, agent: &Agent) -> bool {
    match (pattern, agent) {
        (_, Agent::Class(name)) => name == class,
        (Pattern::Spiffe(pattern), Agent::One(one)) => pattern.matches(one),
        (
            Pattern::Spiffe(SpiffePattern::Below(prefix)),
            Agent::Pattern(SpiffePattern::Below(below)),
        ) => below.starts_with(&**prefix),
        (Pattern::Spiffe(_), Agent::Pattern(_)) | (Pattern::Oidc { .. }, Agent::Pattern(_)) => {
            false
        }
        (Pattern::Oidc { issuer, subject, claims }, Agent::One(one)) => {
            one.issuer() == Some(issuer.as_str())
                && subject.as_deref().is_none_or(|s| one.subject() == Some(s))
                && (subject.is_some() || !claims.is_empty())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pattern: &str, role: Role) -> RoleEntry {
        RoleEntry { pattern: Pattern::Spiffe(SpiffePattern::parse(pattern).unwrap()), role }
    }

    fn class(name: &str) -> Role {
        let name = Name::parse(name).unwrap();
        Role::Agent(AgentClass { name, owner: "payments".to_owned(), tiers: vec![] })
    }

    #[test]
    fn a_principal_of_two_agent_classes_is_refused() {
        let entries = [
            entry("spiffe://td/agents/*", class("a")),
            entry("spiffe://td/agents/x/*", class("b")),
        ];
        let both = Principal::parse("spiffe://td/agents/x/y").unwrap();
        assert!(roles(&entries, &both, &BTreeMap::new()).is_err());
        assert!(class_of(&entries, &Agent::One(both)).is_err());
        let one = Principal::parse("spiffe://td/agents/z").unwrap();
        assert!(roles(&entries, &one, &BTreeMap::new()).unwrap().agent.is_some());
    }

    #[test]
    fn an_oidc_entry_without_subject_and_claims_matches_nobody() {
        let issuer = Name::parse("k8s").unwrap();
        let everyone = Pattern::Oidc { issuer, subject: None, claims: BTreeMap::new() };
        let someone = Principal::parse("oidc:k8s:a").unwrap();
        assert!(!everyone.matches(&someone, &BTreeMap::new()));
    }

    #[test]
    fn claims_are_compared_exactly() {
        let wanted = BTreeMap::from([("repository_id".to_owned(), "7".to_owned())]);
        let issuer = Name::parse("github").unwrap();
        let pattern = Pattern::Oidc { issuer, subject: None, claims: wanted.clone() };
        let caller = Principal::parse("oidc:github:repo:x").unwrap();
        assert!(pattern.matches(&caller, &wanted));
        assert!(!pattern.matches(&caller, &BTreeMap::new()));
        assert!(!pattern.matches(&Principal::parse("oidc:k8s:repo:x").unwrap(), &wanted));
    }

    #[test]
    fn a_task_for_a_wider_pattern_than_its_class_is_refused() {
        let entries = [entry("spiffe://td/agents/finance/*", class("finance"))];
        let agent = |text| Agent::parse(text).unwrap();
        assert!(class_of(&entries, &agent("spiffe://td/agents/finance/*")).is_ok());
        assert!(class_of(&entries, &agent("spiffe://td/agents/finance/eu/*")).is_ok());
        assert!(class_of(&entries, &agent("class:finance")).is_ok());
        assert!(class_of(&entries, &agent("spiffe://td/agents/*")).is_err());
        assert!(class_of(&entries, &agent("spiffe://td/agents/finance")).is_err());
        assert!(class_of(&entries, &agent("class:other")).is_err());
    }
}
