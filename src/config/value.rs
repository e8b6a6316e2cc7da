//! The kinds of values that fields have, each read into its type or refused with what to write instead.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use axum::http::Uri;
use axum::http::uri::Authority;
use toml::de::DeValue;

use super::document::Field;
use super::duration;
use super::section::{Section, list as listed, nearest};
use crate::domain::principal::Name;
use crate::domain::time::Span;
use crate::spiffe::endpoint::WorkloadEndpoint;
use crate::spiffe::id::{SpiffeId, TrustDomain};

/// Names that would read like something else in a policy, a scope or a log.
const RESERVED: [&str; 8] = ["all", "any", "none", "root", "system", "leasehold", "spiffe", "oidc"];

/// Text that is not empty.
pub(super) fn text<'d>(field: &Field<'d>) -> Option<&'d str> {
    match field.value.get_ref() {
        DeValue::String(text) if text.is_empty() => field.refuse("is empty; write something"),
        DeValue::String(text) => Some(text),
        _ => field.wrong_kind("text in quotes"),
    }
}

/// The same, kept.
pub(super) fn owned(field: &Field<'_>) -> Option<String> {
    text(field).map(str::to_owned)
}

/// True or false.
pub(super) fn flag(field: &Field<'_>) -> Option<bool> {
    match field.value.get_ref() {
        DeValue::Boolean(value) => Some(*value),
        _ => field.wrong_kind("`true` or `false`"),
    }
}

/// A whole number within bounds.
pub(super) fn integer<N: TryFrom<u64>>(
    bounds: RangeInclusive<u64>,
) -> impl Fn(&Field<'_>) -> Option<N> {
    move |field| {
        let DeValue::Integer(integer) = field.value.get_ref() else {
            return field.wrong_kind("a whole number");
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix());
        let within = number.ok().filter(|number| bounds.contains(number));
        match within.and_then(|number| N::try_from(number).ok()) {
            Some(number) => Some(number),
            None => {
                let (least, most) = (bounds.start(), bounds.end());
                field.refuse(format!("is {integer}; give {least} to {most}"))
            }
        }
    }
}

/// A length of time within bounds.
pub(super) fn duration(bounds: RangeInclusive<Span>) -> impl Fn(&Field<'_>) -> Option<Span> {
    move |field| {
        let DeValue::String(text) = field.value.get_ref() else {
            return field.wrong_kind("a length of time in quotes, like \"5m\"");
        };
        let (least, most) = (duration::render(*bounds.start()), duration::render(*bounds.end()));
        match duration::parse(text) {
            Err(error) => field.refuse(format!("is `{text}`; {error}")),
            Ok(span) if bounds.contains(&span) => Some(span),
            Ok(_) => field.refuse(format!("is `{text}`; give `{least}` to `{most}`")),
        }
    }
}

/// A length of time in whole seconds, within bounds.
pub(super) fn seconds(bounds: RangeInclusive<u64>) -> impl Fn(&Field<'_>) -> Option<u64> {
    let bounds = Span::from_seconds(*bounds.start())..=Span::from_seconds(*bounds.end());
    move |field| {
        let span = duration(bounds.clone())(field)?;
        if span.micros().is_multiple_of(1_000_000) {
            return Some(span.seconds());
        }
        field.refuse(format!("is `{}`; give whole seconds", duration::render(span)))
    }
}

/// One of the words that mean something here. A word that does not is never a default.
pub(super) fn choice<T: Copy>(choices: &[(&'static str, T)]) -> impl Fn(&Field<'_>) -> Option<T> {
    move |field| {
        let word = text(field)?;
        if let Some((_, value)) = choices.iter().find(|(known, _)| *known == word) {
            return Some(*value);
        }
        let known = listed(choices.iter().map(|(known, _)| *known));
        field.refuse(format!("is `{word}`; write one of {known}"))
    }
}

/// A name: `[a-z0-9-]{1,63}`, and not reserved (THREATS.md class 18).
pub(super) fn name(field: &Field<'_>) -> Option<Name> {
    name_of(field, text(field)?)
}

/// A text that must be a name, at a field.
pub(super) fn name_of(field: &Field<'_>, text: &str) -> Option<Name> {
    match Name::parse(text) {
        Err(error) => field.refuse(format!("is `{text}`; {error}")),
        Ok(_) if RESERVED.contains(&text) => {
            field.refuse(format!("is `{text}`, which is reserved; choose another name"))
        }
        Ok(name) => Some(name),
    }
}

/// The name of something that another part of the file defines; any name if that part has a mistake.
pub(super) fn reference(known: Option<&[Name]>, what: &str) -> impl Fn(&Field<'_>) -> Option<Name> {
    move |field| {
        let Some(known) = known else {
            return name(field);
        };
        let word = text(field)?;
        if let Some(name) = known.iter().find(|name| name.as_str() == word) {
            return Some(name.clone());
        }
        let advice = match nearest(word, known.iter().map(Name::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("there are {}", listed(known.iter().map(Name::as_str))),
        };
        field.refuse(format!("is `{word}`, which is no {what} of this file; {advice}"))
    }
}

/// The name of a trust domain.
pub(super) fn trust_domain(field: &Field<'_>) -> Option<TrustDomain> {
    let text = text(field)?;
    TrustDomain::parse(text)
        .map_or_else(|error| field.refuse(format!("is `{text}`; {error}")), Some)
}

/// The SPIFFE ID of a workload.
pub(super) fn spiffe_id(field: &Field<'_>) -> Option<SpiffeId> {
    let text = text(field)?;
    SpiffeId::parse(text).map_or_else(|error| field.refuse(format!("is `{text}`; {error}")), Some)
}

/// The address of a Workload API. It is the operator's word alone: the environment is never asked for it.
pub(super) fn workload_endpoint(field: &Field<'_>) -> Option<WorkloadEndpoint> {
    let text = text(field)?;
    match WorkloadEndpoint::parse(text) {
        Err(error) => field.refuse(format!("is `{text}`; {error}")),
        Ok(endpoint) if !endpoint.is_local() => field.refuse(format!(
            "is `{text}`, which leads to another machine without TLS; use an agent of this machine"
        )),
        Ok(endpoint) => Some(endpoint),
    }
}

/// A socket to listen on.
pub(super) fn socket(field: &Field<'_>) -> Option<SocketAddr> {
    let text = text(field)?;
    let advice = "write an IP address and a port, like `127.0.0.1:7700` or `[::]:7700`";
    text.parse().map_or_else(|_| field.refuse(format!("is `{text}`; {advice}")), Some)
}

/// An `https` URL without user, query and fragment, exactly as it was written (THREATS.md class 12).
pub(super) fn https_url(field: &Field<'_>) -> Option<String> {
    let text = text(field)?;
    // What stands behind the host's colon must be a port: a password that holds a `/` would else pass for one, with no `@`
    // in the authority.
    let is_host = |authority: &Authority| {
        let port = authority.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
        !authority.host().is_empty() && authority.as_str() == format!("{}{port}", authority.host())
    };
    let is_plain = |uri: &Uri| {
        uri.scheme_str() == Some("https")
            && text.starts_with("https://")
            && uri.authority().is_some_and(is_host)
    };
    if text.parse().is_ok_and(|uri| is_plain(&uri)) && !text.contains(['?', '#']) {
        return Some(text.to_owned());
    }
    field.refuse(format!(
        "is `{}`; write `https://` and a host, without user, query and fragment",
        presentable(text)
    ))
}

/// A URL without what may be a secret in it: user and password, query, fragment. Whoever forgot to escape a password may have
/// any mark in it, so all up to the last `@` is left out, and all of it where that may stand in a query.
pub(super) fn presentable(text: &str) -> String {
    let is_scheme = |scheme: &str| scheme.bytes().all(|byte| byte.is_ascii_alphabetic());
    let (start, rest) = match text.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (format!("{scheme}://"), rest),
        _ => (String::new(), text),
    };
    let (hidden, place) = match rest.rsplit_once('@') {
        Some((user, _)) if user.contains(['?', '#']) => ("…", ""),
        Some((_, place)) => ("…@", place),
        None => ("", rest),
    };
    let (place, behind) = place.split_at(place.find(['?', '#']).unwrap_or(place.len()));
    let end = behind.chars().next().map(|mark| format!("{mark}…")).unwrap_or_default();
    format!("{start}{hidden}{place}{end}")
}

/// The same; or, where the operator says that it may be so, one of this machine, also without TLS.
pub(super) fn https_or_loopback_url(field: &Field<'_>, danger_loopback: bool) -> Option<String> {
    let text = text(field)?;
    let on_this_machine = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"];
    if danger_loopback && on_this_machine.iter().any(|start| text.starts_with(start)) {
        return Some(text.to_owned());
    }
    https_url(field)
}

/// A folder or file that the broker makes.
pub(super) fn path(field: &Field<'_>) -> Option<PathBuf> {
    text(field).map(|text| field.document.path(text))
}

/// A file that must be there when the broker starts. It may come later than this check, so its absence is a warning.
pub(super) fn file(field: &Field<'_>) -> Option<PathBuf> {
    let path = path(field)?;
    if !path.is_file() {
        let text =
            format!("names `{}`, which is not there; make it before `serve`", path.display());
        field.warn(text);
    }
    Some(path)
}

/// A list of at least one, each read alike.
pub(super) fn list<'d, T>(
    each: impl Fn(&Field<'d>) -> Option<T>,
) -> impl Fn(&Field<'d>) -> Option<Vec<T>> {
    move |field| {
        let DeValue::Array(array) = field.value.get_ref() else {
            return field.wrong_kind("a list in `[` and `]`");
        };
        if array.is_empty() {
            return field.refuse("is empty; name at least one");
        }
        // Every element is read before one that is wrong makes the list wrong.
        let read: Vec<_> = (0..array.len()).map(|n| each(&field.element(n))).collect();
        read.into_iter().collect()
    }
}

/// A table, read by `read` and then finished: what it did not ask for is a mistake.
pub(super) fn table<'d, T>(
    read: impl Fn(&mut Section<'d>) -> Option<T>,
) -> impl Fn(&Field<'d>) -> Option<T> {
    move |field| {
        let mut section = Section::of(field)?;
        let value = read(&mut section);
        section.finish();
        value
    }
}
