//! The claims are read in place. Beside that stands a plainer reader, by a tree of values: both take the same payloads for the same
//! tokens, and no others.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::jose::Typ;
use crate::jose::claims::Claims;

/// The rules of a payload once more, each looked up in the tree.
fn by_tree(payload: &str, issuer: &Issuer) -> Option<AccessToken> {
    let compact = issuer.sign(&issuer.header(), payload);
    let unverified = Unverified::parse(&compact, Typ::Is(TYP), &[Algorithm::ES256]).ok()?;
    let claims = unverified.verify(&issuer.keys).ok()?;
    let times = claims.times(now(), Leeway::OURS).ok()?;
    let issued_seconds = times.issued.seconds();
    let execution = ExecutionClaim::read(&claims).ok()?;
    let text = |name| claims.text(name).ok();
    let principal = |name| Principal::parse(text(name)?).ok();
    let holds = text("iss")? == ISSUER
        && times.not_before?.seconds() == issued_seconds.saturating_sub(BEFORE_ISSUE_SECONDS)
        && execution.origin.stamp.seconds() == issued_seconds
        && TaskId::parse(text("txn")?) == Ok(execution.path.root());
    let token = AccessToken {
        issuer: ISSUER.to_owned(),
        subject: principal("sub")?,
        actors: actors(claims.get("act"))?,
        audience: text("aud")?.to_owned(),
        issued_seconds,
        expires_seconds: times.expires.seconds(),
        jti: bytes(text("jti")?)?,
        grant: Grant::read(claims.get("authorization_details")?).ok()?,
        confirmation: confirmation(&claims)?,
        execution,
        signing_key: issuer.key.kid().to_owned(),
    };
    (holds && principal("client_id")? == *token.client()).then_some(token)
}

fn actors(mut act: Option<&Value>) -> Option<Vec<Principal>> {
    let mut actors = Vec::new();
    while let Some(value) = act {
        let object = value.as_object()?;
        actors.push(Principal::parse(object.get("sub")?.as_str()?).ok()?);
        act = object.get("act");
        if object.len() != 1 + usize::from(act.is_some()) {
            return None;
        }
    }
    Some(actors)
}

fn confirmation(claims: &Claims) -> Option<Option<Confirmation>> {
    let Some(cnf) = claims.get("cnf") else { return Some(None) };
    let mut members = cnf.as_object()?.iter();
    let (Some((kind, value)), None) = (members.next(), members.next()) else { return None };
    let hash = bytes(value.as_str()?)?;
    match kind.as_str() {
        "x5t#S256" => Some(Some(Confirmation::Certificate(hash))),
        "jkt" => Some(Some(Confirmation::Key(hash))),
        _ => None,
    }
}

/// What a value is replaced by, or written beside it.
fn values() -> impl Strategy<Value = String> {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let fixed = [
        "null",
        "true",
        "0",
        "-1",
        "-0",
        "1",
        "2",
        "7",
        "1.5",
        "7.0",
        "1e400",
        "1790000001",
        "18446744073709551616",
        "9007199254740992",
        "\"\"",
        "\"a\"",
        "\"\\u0061\"",
        "\"\\ud800\"",
        "[]",
        "{}",
        "[1]",
        "[null]",
        "{\"a\":1}",
        "{\"a\":1,\"a\":1}",
        "{\"sub\":\"oidc:k8s:a\"}",
        "{\"sub\":\"oidc:k8s:a\",\"sub\":\"oidc:k8s:a\"}",
        "{\"jkt\":\"a\"}",
        "nul",
        "01",
        "\u{1}",
        "\"https://leasehold.example\"",
        "\"https:\\/\\/leasehold.example\"",
        "\"tsk_0a00000000000000000000000001\"",
    ];
    let deep = [18, 19, 20, 21, 130].map(deep);
    let all: Vec<_> = fixed.into_iter().map(str::to_owned).chain(deep).collect();
    select(all)
}

/// Where a value stands, a name or an element among them, in the text of a payload.
fn places(text: &str) -> Vec<(usize, usize)> {
    let ends = [b',', b'}', b']', b':'];
    let (mut places, mut start, mut in_text) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        in_text ^= byte == b'"';
        if in_text {
            continue;
        }
        if ends.contains(&byte) {
            places.push((start, at));
        }
        if ends.contains(&byte) || matches!(byte, b'{' | b'[') {
            start = at + 1;
        }
    }
    places
}

#[derive(Clone, Debug)]
enum Change {
    Replace(Index, String),
    Remove(Index),
    Repeat(Index, Index),
    Add(Index, String, String),
    Cut(Index),
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        let names =
            ["act", "sub", "more", "cnf", "v", "step", "aud", "\\u0061ud", "iat", "x5t#S256"];
        let name = select(names.to_vec()).prop_map(str::to_owned);
        prop_oneof![
            4 => (any::<Index>(), values()).prop_map(|(at, value)| Self::Replace(at, value)),
            1 => any::<Index>().prop_map(Self::Remove),
            2 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Self::Repeat(from, to)),
            3 => (any::<Index>(), name, values()).prop_map(|(at, name, v)| Self::Add(at, name, v)),
            1 => any::<Index>().prop_map(Self::Cut),
        ]
    }

    fn of(&self, text: &str) -> String {
        let places = places(text);
        let place = |index: &Index| places.get(index.index(places.len().max(1))).copied();
        let part = |from, to| text.get(from..to).unwrap_or_default();
        let with = |(start, end): (usize, usize), new: &str| {
            format!("{}{new}{}", part(0, start), part(end, text.len()))
        };
        let changed = match self {
            Self::Replace(at, value) => place(at).map(|place| with(place, value)),
            Self::Remove(at) => place(at).map(|(start, end)| with((start, end + 1), "")),
            Self::Repeat(from, to) => place(from)
                .zip(place(to))
                .map(|((start, end), (at, _))| with((at, at), &format!("{},", part(start, end)))),
            Self::Add(at, name, value) => {
                let opened: Vec<_> = text.match_indices('{').map(|(at, _)| at + 1).collect();
                let at = opened.get(at.index(opened.len().max(1)));
                at.map(|at| with((*at, *at), &format!("\"{name}\":{value},")))
            }
            Self::Cut(at) => place(at).map(|(start, _)| part(0, start).to_owned()),
        };
        changed.unwrap_or_else(|| text.to_owned())
    }
}

/// A payload that is whole, of one kind or another.
fn payloads() -> impl Strategy<Value = String> {
    let with = |change: fn(&mut AccessToken)| {
        let mut token = token("k");
        change(&mut token);
        serde_json::to_string(&token.body()).unwrap()
    };
    select(vec![
        with(|_| {}),
        with(|token| token.actors.clear()),
        with(|token| token.confirmation = None),
        with(|token| token.confirmation = Some(Confirmation::Key([1; 32]))),
        with(|token| token.execution.step = String::new()),
        with(|token| token.actors.extend(vec![principal("oidc:k8s:a"); 14])),
    ])
}

thread_local! {
    static SIGNER: Issuer = Issuer::new();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn class_10_both_readers_take_the_same_payloads_for_the_same_tokens(
        whole in payloads(),
        changes in proptest::collection::vec(Change::any(), 0..3),
    ) {
        let payload = changes.iter().fold(whole, |text, change| change.of(&text));
        SIGNER.with(|issuer| {
            let compact = issuer.sign_as_minted(&payload);
            let read = verify(&compact, &issuer.keys, ISSUER, now());
            prop_assert_eq!(read.ok(), by_tree(&payload, issuer), "{}", payload);
            Ok(())
        })?;
    }
}
