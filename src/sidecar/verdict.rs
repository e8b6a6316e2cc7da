//! Yes and no in JSON.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::question::No;
use crate::domain::lattice::Dead;
use crate::domain::path::Path;
use crate::domain::principal::Principal;
use crate::domain::time::Stamp;
use crate::jose::access_token::AccessToken;
use crate::verifier::{Admission, Refused, Verifier};

/// What was let in, and until when that can be said without hearing more.
pub(super) fn yes(admission: &Admission, verifier: &Verifier) -> Value {
    let credential = admission.credential();
    let execution = credential.execution();
    let (checker, present) = (verifier.checker(), verifier.present());
    let (mirror, audience) = (checker.mirror(), &checker.rules().audience);
    let view = mirror.view();
    let fresh_until = mirror.now(&view, present).plus(view.fresh_for(present, execution.freshness));
    let token = credential.token();
    let actors = token.map(|token| &token.actors[..]).unwrap_or_default();
    json!({
        "active": true,
        "task": execution.path.own().task.to_string(),
        "epoch": execution.path.own().counter.get(),
        "step": execution.step,
        "tier": execution.tier.to_string(),
        "lease": execution.lease.to_string(),
        "path": path(&execution.path),
        "subject": token.map(|token| token.subject.as_str()),
        "agent": credential.agent().map(Principal::as_str),
        "actors": actors.iter().map(Principal::as_str).collect::<Vec<_>>(),
        "audience": audience,
        "actions": actions(admission, audience),
        "expires_at": time(credential.expires()),
        "fresh_until": time(fresh_until),
        "claims": token.map(AccessToken::claims),
    })
}

/// What a grant has at an audience.
pub(super) fn actions(admission: &Admission, audience: &str) -> Vec<String> {
    let grant = admission.credential().grant();
    let entries = grant.map(|grant| grant.entries()).unwrap_or_default();
    let here = entries.iter().filter(|entry| entry.audience() == audience);
    let actions: std::collections::BTreeSet<_> = here.flat_map(|entry| entry.actions()).collect();
    actions.into_iter().cloned().collect()
}

/// A time in RFC 3339.
pub(super) fn time(stamp: Stamp) -> Option<String> {
    let micros = i64::try_from(stamp.micros()).ok()?;
    Timestamp::from_microsecond(micros).ok().map(|time| time.to_string())
}

/// Root first; the own task with its epoch, every one above with its branch.
fn path(path: &Path) -> Vec<Value> {
    let own = path.own().task;
    let hop = |hop: &crate::domain::path::Hop| {
        let counter = if hop.task == own { "epoch" } else { "branch" };
        json!({ "task": hop.task.to_string(), counter: hop.counter.get() })
    };
    path.hops().map(hop).collect()
}

/// That a credential has died since.
pub(super) fn revoked(dead: Dead) -> Value {
    let refused = Refused::Dead(dead);
    json!({ "revoked": true, "reason": refused.reason(), "message": refused.to_string() })
}

/// What is not let in, and what to answer.
pub(super) fn no(no: &No) -> Response {
    let headers: Vec<_> =
        no.headers.iter().map(|(name, value)| json!([name.as_str(), value])).collect();
    let body = json!({
        "active": false,
        "status": no.status().as_u16(),
        "error": no.error(),
        "reason": no.reason(),
        "message": no.message(),
        "retriable": no.is_retriable(),
        "headers": headers,
    });
    let mut response = answer(no.status(), &body);
    for (name, value) in &no.headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// JSON that nobody keeps.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response {
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
