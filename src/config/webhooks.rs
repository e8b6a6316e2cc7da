//! `[[webhooks]]`: who is told what happens, by signed events (RFC 8417) that are pushed (RFC 8935).

use std::path::PathBuf;

use super::document::Field;
use super::secret_source::{self, SecretSource};
use super::section::Section;
use super::value;
use crate::domain::principal::Name;
use crate::domain::role::{Role, RoleEntry};
use crate::domain::time::Span;
use crate::domain::webhook::{EVENTS, Interest, stops_work};

/// Each is one more reader of the store, and one more part of every broker's record.
const MOST: usize = 16;

/// A receiver of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// What logs and metrics call it, and what brokers know it by.
    pub name: Name,
    /// Where events are pushed.
    pub url: String,
    /// `aud` of its events.
    pub audience: String,
    /// Which events.
    pub interest: Interest,
    /// Roots that the receiver's certificate must lead to, in PEM; `None`: this machine's.
    pub ca_file: Option<PathBuf>,
    /// What the broker shows as its bearer token there.
    pub bearer: Option<SecretSource>,
    /// How long an answer may take; 100 ms to 30 s.
    pub timeout: Span,
    /// How long after it happened an event is tried at most; 1 s to 24 h.
    pub give_up_after: Span,
    /// It lies on this machine, also without TLS. For development.
    pub danger_loopback: bool,
}

/// What webhooks refer to; `None` where a mistake leaves it open.
pub(super) struct Known {
    orchestrators: Option<Vec<Name>>,
    classes: Option<Vec<Name>>,
    tiers: Option<Vec<Name>>,
}

impl Known {
    pub(super) fn of(roles: Option<&[RoleEntry]>, tiers: Option<Vec<Name>>) -> Self {
        let names = |name: fn(&Role) -> Option<&Name>| {
            let named = |roles: &[RoleEntry]| {
                roles.iter().filter_map(|entry| name(&entry.role).cloned()).collect()
            };
            roles.map(named)
        };
        Self { orchestrators: names(orchestrator), classes: names(class), tiers }
    }
}

fn orchestrator(role: &Role) -> Option<&Name> {
    match role {
        Role::Orchestrator(name) => Some(name),
        _ => None,
    }
}

fn class(role: &Role) -> Option<&Name> {
    match role {
        Role::Agent(class) => Some(&class.name),
        _ => None,
    }
}

/// Every webhook; no two of one name.
pub(super) fn read(field: &Field<'_>, known: &Known) -> Option<Vec<Webhook>> {
    let webhooks = value::list(value::table(|section| webhook(section, known)))(field)?;
    for (n, webhook) in webhooks.iter().enumerate() {
        if n >= MOST {
            return field.element(n).refuse(format!("is one too many; write at most {MOST}"));
        }
        if webhooks.iter().take(n).any(|earlier| earlier.name == webhook.name) {
            let text =
                format!("has the `name` of an earlier one, `{}`; choose another", webhook.name);
            return field.element(n).refuse(text);
        }
    }
    Some(webhooks)
}

fn webhook(section: &mut Section<'_>, known: &Known) -> Option<Webhook> {
    let danger_loopback = section.or("danger_loopback", false, value::flag);
    if danger_loopback == Some(true) {
        let text = "sends events to this machine, also without TLS; for development only";
        section.warn("danger_loopback", text);
    }
    let name = section.required("name", "name = \"stop-work\"", value::name);
    let url = section.required("url", "url = \"https://worker.example/events\"", |field| {
        value::https_or_loopback_url(field, danger_loopback == Some(true))
    });
    let audience =
        section.required("audience", "audience = \"https://worker.example\"", value::owned);
    let interest = interest(section, known);
    let ca_file = section.optional("ca_file", value::file);
    let bearer = secret_source::read(section, ("bearer_file", "bearer_env"));
    let span = |least, most| value::duration(least..=most);
    let timeout = span(Span::from_millis(100), Span::from_seconds(30));
    let timeout = section.or("timeout", Span::from_seconds(5), timeout);
    let give_up_after = span(Span::from_seconds(1), Span::from_seconds(86_400));
    let give_up_after = section.or("give_up_after", Span::from_seconds(3_600), give_up_after);
    Some(Webhook {
        name: name?,
        url: url?,
        audience: audience?,
        interest: interest?,
        ca_file: ca_file?,
        bearer: bearer?,
        timeout: timeout?,
        give_up_after: give_up_after?,
        danger_loopback: danger_loopback?,
    })
}

fn interest(section: &mut Section<'_>, known: &Known) -> Option<Interest> {
    let kinds = section.or("events", stops_work(), value::list(value::choice(&EVENTS)));
    let mut names = |key, known: Option<&[Name]>, what| {
        section.or(key, Vec::new(), value::list(value::reference(known, what)))
    };
    let orchestrators = names("orchestrators", known.orchestrators.as_deref(), "orchestrator");
    let classes = names("classes", known.classes.as_deref(), "agent class");
    let tiers = names("tiers", known.tiers.as_deref(), "tier");
    Some(Interest {
        kinds: kinds?,
        orchestrators: orchestrators?,
        classes: classes?,
        tiers: tiers?,
    })
}
