//! Each platform's tokens: a whole one that is taken, and a table of those that are refused.

use serde_json::{Value, json};

use super::*;
use crate::domain::principal::Name;
use crate::domain::time::{Span, Stamp};
use crate::identity::oidc::{JwksSource, OidcError, OidcIssuer, OidcVerifier};
use crate::identity::{Proof, VerifiedCaller};
use crate::testing::issuer::{Answer, TestIssuer};

const AUDIENCE: &str = "leasehold";
const TENANT: &str = "63122682-bd96-47fd-97ab-95a76ce699a6";
const OBJECT: &str = "72243241-f194-45f3-987d-eeb347b83b69";
const CLIENT: &str = "1671f074-56e2-4c37-873b-b7b07a120b18";

/// An issuer that is taken for a platform's, and a sound token's claims.
struct Fixture {
    issuer: TestIssuer,
    verifier: OidcVerifier,
    sound: Value,
}

impl Fixture {
    /// `path` is the issuer's behind its host.
    async fn start(platform: Option<Platform>, path: &str, subject: &str, attested: Value) -> Self {
        let issuer = TestIssuer::start().await;
        let url = format!("{}{path}", issuer.url);
        let mut discovery = issuer.discovery();
        discovery["issuer"] = json!(url);
        let place = path.trim_end_matches('/');
        let place = format!("{place}/.well-known/openid-configuration");
        issuer.set(&place, Answer::of(discovery));
        let config = OidcIssuer {
            name: Name::parse("p").unwrap(),
            issuer: url.clone(),
            audience: AUDIENCE.into(),
            jwks: JwksSource::Discovery,
            max_lifetime: Span::from_seconds(3600),
            platform,
            token_review: None,
            in_cluster: false,
            danger_loopback: true,
            ca_file: None,
        };
        let verifier = OidcVerifier::new(vec![config], &[], 0).unwrap();
        let mut sound = issuer.claims(subject, AUDIENCE, now());
        sound["iss"] = json!(url);
        for (name, value) in attested.as_object().unwrap() {
            sound[name] = value.clone();
        }
        Self { issuer, verifier, sound }
    }

    async fn verify(&self, claims: &Value) -> Result<VerifiedCaller, OidcError> {
        self.verifier.verify(&self.issuer.sign(claims), now()).await.map(|verified| verified.caller)
    }

    /// The sound token with one value changed, by its JSON pointer; `null` takes it out.
    fn with(&self, pointer: &str, value: &Value) -> Value {
        let mut claims = self.sound.clone();
        let (object, name) = pointer.rsplit_once('/').unwrap();
        let name = name.replace("~1", "/");
        let object = claims.pointer_mut(object).unwrap().as_object_mut().unwrap();
        match value {
            Value::Null => assert!(object.remove(&name).is_some(), "{pointer}"),
            _ => drop(object.insert(name, value.clone())),
        }
        claims
    }

    /// Every row: what is changed to what, and why it is refused then.
    async fn refuses(&self, rows: &[(&str, Value, PlatformError)]) {
        let mut wrong = Vec::new();
        for (pointer, value, error) in rows {
            match self.verify(&self.with(pointer, value)).await {
                Err(OidcError::Platform(refused)) if refused == *error => {}
                other => wrong.push(format!("{pointer}: {value}: {:?}", other.err())),
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    async fn instance_with(&self, pointer: &str, value: Value) -> String {
        self.verify(&self.with(pointer, &value)).await.unwrap().instance().to_owned()
    }
}

fn now() -> Stamp {
    Stamp::from_seconds(1_790_000_000)
}

fn claims(caller: &VerifiedCaller) -> &BTreeMap<String, String> {
    match caller.proof() {
        Proof::Oidc { claims, .. } => claims,
        Proof::Certificate { .. } | Proof::JwtSvid => panic!("not by a certificate"),
    }
}

fn missing(name: &'static str) -> PlatformError {
    PlatformError::Claim(ClaimError::Missing(name))
}

fn wrong(name: &'static str) -> PlatformError {
    PlatformError::Claim(ClaimError::WrongType(name))
}

async fn kubernetes() -> Fixture {
    let attested = json!({
        "aud": [AUDIENCE],
        "kubernetes.io": {
            "namespace": "docs",
            "node": {"name": "node-1", "uid": "646e7c5e-32d6-4d42-9dbd-e504e6cbe6b1"},
            "pod": {"name": "summarizer-0", "uid": "5e0bd49b-f040-43b0-99b7-22765a53f7f3"},
            "serviceaccount": {"name": "summarizer", "uid": "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798"},
        },
    });
    let subject = "system:serviceaccount:docs:summarizer";
    Fixture::start(Some(Platform::Kubernetes), "", subject, attested).await
}

#[tokio::test]
async fn a_pods_token_attests_its_pod_and_its_service_account() {
    let fixture = kubernetes().await;
    let caller = fixture.verify(&fixture.sound).await.unwrap();
    assert_eq!(caller.principal().as_str(), "oidc:p:system:serviceaccount:docs:summarizer");
    assert_eq!(caller.instance(), "pod:5e0bd49b-f040-43b0-99b7-22765a53f7f3");
    let claims = claims(&caller);
    let uid = "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798";
    assert_eq!(claims["kubernetes.io/serviceaccount/uid"], uid);
    assert_eq!(claims["kubernetes.io/namespace"], "docs");
    assert_eq!(claims["kubernetes.io/node/name"], "node-1");
    assert_eq!(claims.len(), 10, "{claims:?}");
}

#[tokio::test]
async fn kubernetes_tokens_that_prove_no_living_pod_are_refused() {
    let fixture = kubernetes().await;
    let (account, pod) = ("kubernetes.io/serviceaccount/uid", "kubernetes.io/pod/uid");
    let rows = [
        ("/kubernetes.io", Value::Null, missing("kubernetes.io")),
        ("/kubernetes.io", json!("docs"), wrong("kubernetes.io/namespace")),
        ("/kubernetes.io/namespace", Value::Null, missing("kubernetes.io/namespace")),
        ("/kubernetes.io/namespace", json!(7), wrong("kubernetes.io/namespace")),
        ("/kubernetes.io/namespace", json!("ci"), disagree("sub", "kubernetes.io")),
        ("/kubernetes.io/serviceaccount/name", json!("x"), disagree("sub", "kubernetes.io")),
        ("/kubernetes.io/serviceaccount/uid", Value::Null, missing(account)),
        ("/kubernetes.io/serviceaccount/uid", json!(""), wrong(account)),
        ("/kubernetes.io/serviceaccount/uid", json!(["u"]), wrong(account)),
        ("/kubernetes.io/pod", Value::Null, missing(pod)),
        ("/kubernetes.io/pod", json!("summarizer-0"), wrong(pod)),
        ("/kubernetes.io/pod/uid", Value::Null, missing(pod)),
        ("/kubernetes.io/pod/uid", json!(1), wrong(pod)),
        ("/kubernetes.io/warnafter", json!(1_790_003_607), PlatformError::Extended),
        ("/kubernetes.io~1serviceaccount~1secret.name", json!("s"), PlatformError::Legacy),
        ("/iss", json!("kubernetes/serviceaccount"), PlatformError::Legacy),
        ("/sub", json!("system:serviceaccount:docs:other"), disagree("sub", "kubernetes.io")),
        (
            "/aud",
            json!([AUDIENCE, "https://kubernetes.default.svc"]),
            PlatformError::SharedAudience,
        ),
    ];
    fixture.refuses(&rows).await;
    // What a default token is: extended to a year, it is refused by its life alone.
    let year = fixture.with("/exp", &json!(now().seconds() + 31_536_000));
    assert_eq!(fixture.verify(&year).await.unwrap_err(), OidcError::Lifetime);
}

fn disagree(one: &'static str, other: &'static str) -> PlatformError {
    PlatformError::Disagree(one, other)
}

async fn github() -> Fixture {
    let attested = json!({
        "actor": "octocat", "actor_id": "12", "aud": AUDIENCE, "base_ref": "", "check_run_id": "48521984325",
        "environment": "prod", "event_name": "workflow_dispatch", "head_ref": "",
        "job_workflow_ref": "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
        "job_workflow_sha": "30f3da7c5ea1ea4fbd0d2f10d0e4b1dc4a3d1d0f", "ref": "refs/heads/main",
        "ref_protected": "true", "ref_type": "branch", "repository": "octo-org/octo-repo",
        "repository_id": "74", "repository_owner": "octo-org", "repository_owner_id": "65",
        "repository_visibility": "private", "run_attempt": "2", "run_id": "1658821493", "run_number": "10",
        "runner_environment": "github-hosted", "sha": "30f3da7c5ea1ea4fbd0d2f10d0e4b1dc4a3d1d0f",
        "workflow": "release", "workflow_ref": "octo-org/octo-repo/.github/workflows/r.yml@refs/heads/main",
        "workflow_sha": "30f3da7c5ea1ea4fbd0d2f10d0e4b1dc4a3d1d0f",
    });
    let subject = "repo:octo-org/octo-repo:environment:prod";
    Fixture::start(Some(Platform::Github), "", subject, attested).await
}

#[tokio::test]
async fn a_jobs_token_attests_its_run_and_its_repository() {
    let fixture = github().await;
    let caller = fixture.verify(&fixture.sound).await.unwrap();
    assert_eq!(caller.instance(), "run:1658821493/2");
    for (name, value) in [
        ("repository_id", "74"),
        ("repository_owner_id", "65"),
        ("event_name", "workflow_dispatch"),
        ("check_run_id", "48521984325"),
        ("ref_protected", "true"),
    ] {
        assert_eq!(claims(&caller)[name], value);
    }
    let other = fixture.instance_with("/run_attempt", json!("3")).await;
    assert_eq!(other, "run:1658821493/3");
}

#[tokio::test]
async fn a_repository_whose_subject_has_ids_is_another_principal_with_the_same_claims() {
    let fixture = github().await;
    let renewed = "repo:octo-org-65/octo-repo-74:environment:prod";
    let [before, after] = [fixture.sound.clone(), fixture.with("/sub", &json!(renewed))];
    let [before, after] =
        [fixture.verify(&before).await.unwrap(), fixture.verify(&after).await.unwrap()];
    assert_ne!(before.principal(), after.principal());
    assert_eq!(after.principal().as_str(), format!("oidc:p:{renewed}"));
    assert_eq!(before.instance(), after.instance());
    let mut attested = claims(&before).clone();
    attested.insert("sub".into(), renewed.into());
    assert_eq!(&attested, claims(&after));
}

#[tokio::test]
async fn the_event_of_a_pull_request_tells_whose_code_runs() {
    let fixture = github().await;
    for event in ["pull_request", "pull_request_target"] {
        let caller = fixture.verify(&fixture.with("/event_name", &json!(event))).await.unwrap();
        assert_eq!(claims(&caller)["event_name"], event);
    }
}

#[tokio::test]
async fn github_tokens_without_their_ids_are_refused() {
    let fixture = github().await;
    let rows = [
        ("/repository_id", Value::Null, missing("repository_id")),
        ("/repository_id", json!(74), wrong("repository_id")),
        ("/repository_id", json!("octo-repo"), PlatformError::Malformed("repository_id")),
        ("/repository_owner_id", Value::Null, missing("repository_owner_id")),
        ("/repository_owner_id", json!("-1"), PlatformError::Malformed("repository_owner_id")),
        ("/job_workflow_ref", Value::Null, missing("job_workflow_ref")),
        ("/job_workflow_ref", json!(""), wrong("job_workflow_ref")),
        ("/event_name", Value::Null, missing("event_name")),
        ("/run_id", Value::Null, missing("run_id")),
        ("/run_id", json!(7), wrong("run_id")),
        ("/run_attempt", Value::Null, missing("run_attempt")),
        ("/run_attempt", json!("2/3"), PlatformError::Malformed("run_attempt")),
        ("/environment", json!(["prod"]), wrong("environment")),
        ("/ref_protected", json!(true), wrong("ref_protected")),
        ("/check_run_id", json!(1), wrong("check_run_id")),
        ("/aud", json!([AUDIENCE, "https://github.com/octo-org"]), PlatformError::SharedAudience),
    ];
    fixture.refuses(&rows).await;
}

async fn gcp() -> Fixture {
    let attested = json!({
        "azp": "104479897743394244856", "email": "405721773632-compute@developer.gserviceaccount.com",
        "email_verified": true,
        "google": {"compute_engine": {
            "instance_creation_timestamp": 1_789_999_000, "instance_id": "6140691338085198734",
            "instance_name": "pool-17bba0ee-w929", "license_id": ["1000204"], "project_id": "tests-306319",
            "project_number": 405_721_773_632_u64, "zone": "europe-west10-a",
        }},
    });
    Fixture::start(Some(Platform::Gcp), "", "104479897743394244856", attested).await
}

#[tokio::test]
async fn a_service_accounts_token_attests_its_machine() {
    let fixture = gcp().await;
    let caller = fixture.verify(&fixture.sound).await.unwrap();
    assert_eq!(caller.principal().as_str(), "oidc:p:104479897743394244856");
    assert_eq!(caller.instance(), "gce:6140691338085198734");
    for (name, value) in [
        ("email_verified", "true"),
        ("google/compute_engine/project_id", "tests-306319"),
        ("google/compute_engine/project_number", "405721773632"),
    ] {
        assert_eq!(claims(&caller)[name], value);
    }
    assert!(!claims(&caller).keys().any(|name| name.contains("license")), "a list is no text");
    // Of the standard format, or from where there is no machine.
    let instance = fixture.instance_with("/google", Value::Null).await;
    assert_eq!(instance, caller.principal().as_str());
}

#[tokio::test]
async fn google_tokens_that_are_no_service_accounts_are_refused() {
    let fixture = gcp().await;
    let instance = "google/compute_engine/instance_id";
    let person = PlatformError::NotAWorkload("`azp` is not the service account itself");
    let rows = [
        ("/azp", Value::Null, missing("azp")),
        ("/azp", json!("32555940559.apps.googleusercontent.com"), person),
        ("/sub", json!("alice"), PlatformError::Malformed("sub")),
        ("/email_verified", json!(false), PlatformError::EmailUnverified),
        ("/email_verified", Value::Null, PlatformError::EmailUnverified),
        ("/email_verified", json!("true"), wrong("email_verified")),
        ("/email", json!(7), wrong("email")),
        ("/google", json!("x"), wrong("google")),
        ("/google/compute_engine", json!([]), wrong(instance)),
        ("/google/compute_engine/instance_id", Value::Null, missing(instance)),
        ("/google/compute_engine/instance_id", json!(1), wrong(instance)),
        ("/google/compute_engine/instance_id", json!("a"), PlatformError::Malformed(instance)),
        ("/aud", json!([AUDIENCE, "other"]), PlatformError::SharedAudience),
    ];
    fixture.refuses(&rows).await;
}

async fn entra(path: &str, application: &str) -> Fixture {
    let attested = json!({
        application: CLIENT, "idtyp": "app", "oid": OBJECT, "tid": TENANT, "uti": "4GOPt79GP0if650O0N7iAA",
        "rh": "0.Aa4AgiYSY5a9_UeXq5WnbOaZpgMAAAAAAAAAwAAAAAAAAACtAAA.", "roles": ["Leasehold.Agent"],
        "xms_mirid": "/subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/a",
    });
    Fixture::start(Some(Platform::Entra), path, OBJECT, attested).await
}

#[tokio::test]
async fn an_applications_token_of_either_version_attests_its_object() {
    for (path, application) in
        [(format!("/{TENANT}/v2.0"), "azp"), (format!("/{TENANT}/"), "appid")]
    {
        let fixture = entra(&path, application).await;
        let caller = fixture.verify(&fixture.sound).await.unwrap();
        assert_eq!(caller.principal().as_str(), format!("oidc:p:{OBJECT}"));
        assert_eq!(caller.instance(), caller.principal().as_str());
        for (name, value) in [("oid", OBJECT), ("tid", TENANT), (application, CLIENT)] {
            assert_eq!(claims(&caller)[name], value);
        }
        assert!(claims(&caller)["xms_mirid"].contains("userAssignedIdentities"));
        assert!(!claims(&caller).contains_key("roles"), "a list is no text");
    }
}

#[tokio::test]
async fn class_12_entra_tokens_of_another_tenant_or_of_a_person_are_refused() {
    let fixture = entra(&format!("/{TENANT}/v2.0"), "azp").await;
    let person = PlatformError::NotAWorkload("`idtyp` is not `app`");
    let rows = [
        ("/tid", Value::Null, missing("tid")),
        ("/tid", json!(OBJECT), disagree("tid", "iss")),
        ("/tid", json!(TENANT.to_uppercase()), PlatformError::Malformed("tid")),
        ("/idtyp", Value::Null, missing("idtyp")),
        ("/idtyp", json!("user"), person),
        ("/idtyp", json!(true), wrong("idtyp")),
        ("/oid", Value::Null, missing("oid")),
        ("/oid", json!("summarizer"), PlatformError::Malformed("oid")),
        ("/azp", Value::Null, missing("azp")),
        ("/azp", json!(7), wrong("azp")),
        ("/appid", json!(OBJECT), disagree("azp", "appid")),
        ("/xms_mirid", json!([]), wrong("xms_mirid")),
        ("/aud", json!([AUDIENCE, "api://other"]), PlatformError::SharedAudience),
    ];
    fixture.refuses(&rows).await;
    let template = format!("{}/{{tenantid}}/v2.0", fixture.issuer.url);
    let refused = fixture.verify(&fixture.with("/iss", &json!(template))).await.unwrap_err();
    assert_eq!(refused, OidcError::UnknownIssuer);
}

const AWS: &str = "/https:~1~1sts.amazonaws.com~1";

async fn aws() -> Fixture {
    let attested = json!({"https://sts.amazonaws.com/": {
        "aws_account": "123456789012", "ec2_instance_source_private_ipv4": "10.0.1.25",
        "ec2_instance_source_vpc": "vpc-abc123def456", "ec2_role_delivery": "2.0",
        "ec2_source_instance_arn": "arn:aws:ec2:us-east-1:123456789012:instance/i-abc123def456",
        "org_id": "o-abc1234567", "original_session_exp": "2026-01-15T10:00:00Z",
        "ou_path": ["o-abc1234567/r-ab12/"], "principal_id": "arn:aws:iam::123456789012:role/Data",
        "principal_tags": {"team": "data"}, "request_tags": {"team": "payments", "job-id": "7"},
        "source_region": "us-east-1",
    }});
    let subject = "arn:aws:iam::123456789012:role/Data";
    Fixture::start(Some(Platform::Aws), "", subject, attested).await
}

#[tokio::test]
async fn a_roles_token_attests_its_account_and_session_and_none_of_its_own_tags() {
    let fixture = aws().await;
    let caller = fixture.verify(&fixture.sound).await.unwrap();
    assert_eq!(caller.principal().as_str(), "oidc:p:arn:aws:iam::123456789012:role/Data");
    let machine = "ec2:arn:aws:ec2:us-east-1:123456789012:instance/i-abc123def456";
    assert_eq!(caller.instance(), machine);
    for (name, value) in [("aws_account", "123456789012"), ("principal_tags/team", "data")] {
        assert_eq!(claims(&caller)[&format!("https://sts.amazonaws.com/{name}")], value);
    }
    assert!(!claims(&caller).iter().any(|(n, v)| n.contains("request_tags") || v == "payments"));
    let pointer = format!("{AWS}/ec2_source_instance_arn");
    let instance = fixture.instance_with(&pointer, Value::Null).await;
    assert_eq!(instance, caller.principal().as_str());
    let lambda = json!({
        "aws_account": "123456789012",
        "lambda_source_function_arn": "arn:aws:lambda:us-east-1:123456789012:function:process",
    });
    let instance = fixture.instance_with(AWS, lambda).await;
    assert_eq!(instance, "lambda:arn:aws:lambda:us-east-1:123456789012:function:process");
}

#[tokio::test]
async fn class_12_aws_tokens_of_another_account_or_of_no_role_are_refused() {
    let fixture = aws().await;
    let account = "https://sts.amazonaws.com/aws_account";
    let no_role = PlatformError::NotAWorkload("`sub` is not the ARN of a role");
    let pointer = format!("{AWS}/aws_account");
    let rows = [
        (AWS, Value::Null, missing("https://sts.amazonaws.com/")),
        (AWS, json!("123456789012"), wrong(account)),
        (pointer.as_str(), Value::Null, missing(account)),
        (pointer.as_str(), json!(123_456_789_012_u64), wrong(account)),
        (pointer.as_str(), json!("210987654321"), disagree("sub", account)),
        ("/sub", json!("arn:aws:iam::210987654321:role/Data"), disagree("sub", account)),
        ("/sub", json!("arn:aws:iam::123456789012:user/alice"), no_role),
        ("/sub", json!("arn:aws:iam::123456789012:root"), no_role),
        ("/sub", json!("arn:aws:sts::123456789012:assumed-role/Data/s"), no_role),
        ("/sub", json!("arn:aws:iam:::role/Data"), PlatformError::Malformed("sub")),
        ("/sub", json!("Data"), PlatformError::Malformed("sub")),
        ("/aud", json!([AUDIENCE, "https://api.example.com"]), PlatformError::SharedAudience),
    ];
    fixture.refuses(&rows).await;
}

#[tokio::test]
async fn a_claim_cannot_pass_for_one_that_its_platform_attests() {
    for (fixture, claim) in [
        (kubernetes().await, "kubernetes.io/pod/name"),
        (gcp().await, "google/compute_engine/zone"),
        (aws().await, "https://sts.amazonaws.com/org_id"),
        (aws().await, "https://sts.amazonaws.com/forged"),
    ] {
        let mut forged = fixture.sound.clone();
        forged[claim] = json!("forged");
        let caller = fixture.verify(&forged).await.unwrap();
        assert_ne!(claims(&caller).get(claim).map(String::as_str), Some("forged"), "{claim}");
    }
    let fixture = gcp().await;
    let mut bare = fixture.with("/google", &Value::Null);
    bare["google/compute_engine/zone"] = json!("forged");
    let caller = fixture.verify(&bare).await.unwrap();
    assert!(!claims(&caller).contains_key("google/compute_engine/zone"));
}

#[tokio::test]
async fn without_a_preset_nothing_but_the_registered_claims_is_known() {
    let attested = json!({
        "aud": [AUDIENCE, "other"], "run_id": "7", "run_attempt": "2", "email_verified": true,
        "kubernetes.io": {"pod": {"uid": "u2"}},
    });
    let fixture = Fixture::start(None, "", "someone", attested).await;
    let caller = fixture.verify(&fixture.sound).await.unwrap();
    assert_eq!(caller.instance(), "oidc:p:someone");
    let names: Vec<_> = claims(&caller).keys().map(String::as_str).collect();
    assert_eq!(names, ["iss", "jti", "run_attempt", "run_id", "sub"]);
}
