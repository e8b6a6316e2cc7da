//! What the claims of known platforms attest about a caller: its instance, and texts that role entries match on.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::jose::{ClaimError, Claims};

/// Which platform's claims an issuer's tokens carry. Only what the platform attests is an instance: a claim of that name
/// from another issuer may be its caller's own choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Platform {
    /// Nothing but the registered claims is known.
    #[default]
    Other,
    /// Kubernetes service account tokens: `kubernetes.io` has namespace, service account and pod.
    Kubernetes,
    /// GitHub Actions: `run_id` and `run_attempt`.
    GithubActions,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attested {
    /// Which running copy it is, if the token says so.
    pub(super) instance: Option<String>,
    /// The text claims, by name; those within `kubernetes.io` as `kubernetes.io/pod/uid`.
    pub(super) claims: BTreeMap<String, String>,
}

const KUBERNETES: &str = "kubernetes.io";

/// Reads the claims of a verified token.
///
/// # Errors
/// [`ClaimError::WrongType`] if a claim that the platform defines has another type.
pub(super) fn read(platform: Platform, claims: &Claims) -> Result<Attested, ClaimError> {
    let mut texts = BTreeMap::new();
    for (name, value) in claims.members() {
        if let Value::String(text) = value {
            texts.insert(name.clone(), text.clone());
        }
    }
    let instance = match platform {
        Platform::Other => None,
        Platform::Kubernetes => {
            // INVARIANT (attested names): what another claim is called cannot pass for one within `kubernetes.io`.
            texts.retain(|name, _| !name.starts_with(KUBERNETES));
            if let Some(attested) = claims.get(KUBERNETES) {
                flatten(KUBERNETES, attested, &mut texts)?;
            }
            let in_pod = claims.get(KUBERNETES).is_some_and(|k| k.get("pod").is_some());
            match texts.get("kubernetes.io/pod/uid") {
                Some(uid) => Some(format!("pod:{uid}")),
                None if in_pod => return Err(ClaimError::WrongType(KUBERNETES)),
                None => None,
            }
        }
        Platform::GithubActions => {
            let run = claims.optional_text("run_id")?;
            let attempt = claims.optional_text("run_attempt")?;
            run.zip(attempt).map(|(run, attempt)| format!("run:{run}/{attempt}"))
        }
    };
    Ok(Attested { instance, claims: texts })
}

/// Takes the texts of an object and of the objects in it, each level behind a `/`. The rest (`warnafter`) is left out.
fn flatten(
    prefix: &str,
    value: &Value,
    texts: &mut BTreeMap<String, String>,
) -> Result<(), ClaimError> {
    let members = value.as_object().ok_or(ClaimError::WrongType(KUBERNETES))?;
    for (name, value) in members {
        let name = format!("{prefix}/{name}");
        match value {
            Value::Object(_) => flatten(&name, value, texts)?,
            Value::String(text) if !text.is_empty() => {
                texts.insert(name, text.clone());
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jose::{Algorithm, Expect, KeySet, SigningKey, Typ, verify};

    fn read_signed(platform: Platform, claims: Value) -> Result<Attested, ClaimError> {
        let (key, _) = SigningKey::generate().unwrap();
        let keys = KeySet::of([key.verifying_key().clone()]).unwrap();
        let token = key.sign("JWT", &claims).unwrap();
        let expect = Expect { typ: Typ::Is("JWT"), algorithms: &[Algorithm::ES256], keys: &keys };
        read(platform, &verify(token.expose_text(), expect).unwrap())
    }

    fn instance(platform: Platform, claims: Value) -> Option<String> {
        read_signed(platform, claims).unwrap().instance
    }

    #[test]
    fn a_pod_is_an_instance_and_its_claims_have_their_path_as_name() {
        let kubernetes = json!({
            "namespace": "prod", "warnafter": 1, "node": null,
            "serviceaccount": {"name": "sa", "uid": "u1"}, "pod": {"name": "p", "uid": "u2"},
        });
        let token = json!({"sub": "s", "kubernetes.io": kubernetes, "n": 1});
        let attested = read_signed(Platform::Kubernetes, token.clone()).unwrap();
        assert_eq!(attested.instance.as_deref(), Some("pod:u2"));
        let names: Vec<_> = attested.claims.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(
            names,
            [
                "kubernetes.io/namespace=prod",
                "kubernetes.io/pod/name=p",
                "kubernetes.io/pod/uid=u2",
                "kubernetes.io/serviceaccount/name=sa",
                "kubernetes.io/serviceaccount/uid=u1",
                "sub=s",
            ]
        );
        assert_eq!(instance(Platform::Other, token.clone()), None);
        assert_eq!(instance(Platform::GithubActions, token), None);
    }

    #[test]
    fn a_claim_cannot_pass_for_one_that_kubernetes_attests() {
        let token = json!({"kubernetes.io/pod/uid": "forged", "kubernetes.io/namespace": "forged"});
        let attested = read_signed(Platform::Kubernetes, token).unwrap();
        assert_eq!(attested, Attested { instance: None, claims: BTreeMap::new() });
    }

    #[test]
    fn a_run_of_github_actions_is_an_instance_with_its_attempt() {
        let run = json!({"run_id": "7", "run_attempt": "2"});
        assert_eq!(instance(Platform::GithubActions, run.clone()).as_deref(), Some("run:7/2"));
        assert_eq!(instance(Platform::GithubActions, json!({"run_id": "7"})), None);
        assert_eq!(instance(Platform::Other, run.clone()), None);
        assert_eq!(instance(Platform::Kubernetes, run), None);
    }

    #[test]
    fn class_10_claims_of_a_platform_with_the_wrong_type_are_refused() {
        for pod in [json!({"uid": 1}), json!({}), json!("p"), json!({"uid": ""}), json!(null)] {
            let refused = read_signed(Platform::Kubernetes, json!({"kubernetes.io": {"pod": pod}}));
            assert_eq!(refused, Err(ClaimError::WrongType(KUBERNETES)), "{pod}");
        }
        let refused = read_signed(Platform::Kubernetes, json!({"kubernetes.io": "prod"}));
        assert_eq!(refused, Err(ClaimError::WrongType(KUBERNETES)));
        let refused = read_signed(Platform::GithubActions, json!({"run_id": 7, "run_attempt": 1}));
        assert_eq!(refused, Err(ClaimError::WrongType("run_id")));
    }
}
