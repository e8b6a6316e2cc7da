//! `[[roles]]`: what principals may do, by pattern.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::document::Field;
use super::section::{Section, list, nearest};
use super::value;
use crate::domain::principal::{Name, SpiffePattern};
use crate::domain::role::{AgentClass, Pattern, Role, RoleEntry};
use crate::spiffe::id::TrustDomain;

/// What role entries refer to.
pub(super) struct Known {
    /// Names of the tiers; `None` if a mistake in `tiers` leaves them open.
    pub(super) tiers: Option<Vec<Name>>,
    /// Names of the trusted issuers, likewise.
    pub(super) issuers: Option<Vec<Name>>,
    /// The trusted trust domains, likewise.
    pub(super) domains: Option<Vec<TrustDomain>>,
}

#[derive(Clone, Copy)]
enum Kind {
    Agent,
    Orchestrator,
    Operator,
    Approver,
    Verifier,
}

pub(super) fn read(section: &mut Section<'_>, known: &Known) -> Option<RoleEntry> {
    let kinds = [
        ("agent", Kind::Agent),
        ("orchestrator", Kind::Orchestrator),
        ("operator", Kind::Operator),
        ("approver", Kind::Approver),
        ("verifier", Kind::Verifier),
    ];
    let pattern = pattern(section, known);
    let role = match section.required("role", "role = \"agent\"", value::choice(&kinds)) {
        Some(Kind::Agent) => agent(section, known).map(Role::Agent),
        Some(Kind::Orchestrator) => {
            section.required("name", "name = \"ci\"", value::name).map(Role::Orchestrator)
        }
        Some(Kind::Operator) => Some(Role::Operator),
        Some(Kind::Approver) => Some(Role::Approver),
        Some(Kind::Verifier) => {
            let example = "audiences = [\"https://ledger.example\"]";
            let audiences = section.required("audiences", example, value::list(value::owned));
            audiences.map(Role::Verifier)
        }
        None => {
            section.ignore_rest();
            None
        }
    };
    Some(RoleEntry { pattern: pattern?, role: role? })
}

fn agent(section: &mut Section<'_>, known: &Known) -> Option<AgentClass> {
    let name = section.required("class", "class = \"finance\"", value::name);
    let owner = section.required("owner", "owner = \"payments\"", value::owned);
    let tiers = value::list(value::reference(known.tiers.as_deref(), "tier"));
    let tiers = section.required("tiers", "tiers = [\"standard\"]", tiers);
    Some(AgentClass { name: name?, owner: owner?, tiers: tiers? })
}

/// `match`, or `issuer` with `subject`, `claims` or both.
fn pattern(section: &mut Section<'_>, known: &Known) -> Option<Pattern> {
    let by_id = section.optional("match", |field| spiffe(field, known));
    let issuers = known.issuers.as_deref();
    let issuer = section.optional("issuer", value::reference(issuers, "issuer"));
    let subject = section.optional("subject", value::owned);
    let claims = section.optional("claims", claims);
    match (by_id?, issuer?, subject?, claims?) {
        (Some(pattern), None, None, None) => Some(Pattern::Spiffe(pattern)),
        (None, Some(_), None, None) => section.refuse(
            "issuer",
            "alone would match everyone of the issuer; add `subject` or `claims`",
        ),
        (None, Some(issuer), subject, claims) => {
            Some(Pattern::Oidc { issuer, subject, claims: claims.unwrap_or_default() })
        }
        (Some(_), _, _, _) => section.refuse(
            "match",
            "stands beside `issuer`, `subject` or `claims`; make two entries of it",
        ),
        (None, None, None, None) => section.refuse(
            "",
            "matches nobody; add `match = \"spiffe://…\"`, or `issuer` and `subject` or `claims`",
        ),
        (None, None, _, _) => section.refuse("", "has no `issuer`; say whose tokens are meant"),
    }
}

fn spiffe(field: &Field<'_>, known: &Known) -> Option<SpiffePattern> {
    let text = value::text(field)?;
    let Ok(pattern) = SpiffePattern::parse(text) else {
        return field.refuse(format!(
            "is `{text}`; write a SPIFFE ID, or one whose last segment is `*` for all that lie below"
        ));
    };
    let Some(trusted) = &known.domains else {
        return Some(pattern);
    };
    let domain = pattern.trust_domain();
    let domains = || trusted.iter().map(TrustDomain::as_str);
    if domains().any(|trusted| trusted == domain) {
        return Some(pattern);
    }
    let advice = match nearest(domain, domains()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("trusted are {}", list(domains())),
    };
    field.refuse(format!("lies in `{domain}`, which no `[[trust.spiffe]]` names; {advice}"))
}

fn claims(field: &Field<'_>) -> Option<BTreeMap<String, String>> {
    let DeValue::Table(table) = field.value.get_ref() else {
        return field.wrong_kind("a table, like { repository_id = \"7\" }");
    };
    if table.is_empty() {
        return field.refuse("is empty, and would match everyone of the issuer; name a claim");
    }
    let claim = |name: &str, value| {
        let path = format!("{}.{name}", field.path);
        let text = value::owned(&Field { document: field.document, path, value })?;
        Some((name.to_owned(), text))
    };
    let read: Vec<_> = table.iter().map(|(name, value)| claim(name.get_ref(), value)).collect();
    read.into_iter().collect()
}
