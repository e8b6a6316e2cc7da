//! Records survive their bytes; bytes that are not records are refused.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::domain::event::EventKind;
use crate::domain::lease::{Draft, Kind, Lease};
use crate::domain::path::Path;
use crate::domain::scope::Reach;
use crate::store::codec_event;
use crate::store::codec_lease::{lease, lease_bytes, terms_of};

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,24}"
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..4, 0u64..1 << 53, Just((1 << 53) - 1)]
}

fn stamps() -> impl Strategy<Value = Stamp> {
    number().prop_map(Stamp::saturating_from_micros)
}

/// Zero stands for absent in some fields; no commit has it.
fn later() -> impl Strategy<Value = Stamp> {
    (1u64..1 << 53).prop_map(Stamp::saturating_from_micros)
}

fn counters() -> impl Strategy<Value = Counter> {
    number().prop_map(Counter::new)
}

fn origins() -> impl Strategy<Value = Origin> {
    (stamps(), stamps()).prop_map(|(incarnation, stamp)| Origin { incarnation, stamp })
}

fn tasks_ids() -> impl Strategy<Value = TaskId> {
    (0u8..16, any::<u128>()).prop_map(|(partition, random)| {
        TaskId::new(crate::domain::id::Partition(partition), random)
    })
}

fn lease_ids() -> impl Strategy<Value = LeaseId> {
    any::<u128>().prop_map(|random| LeaseId::new(crate::domain::id::Partition::ZERO, random))
}

fn hops() -> impl Strategy<Value = Hop> {
    let id = any::<u128>().prop_map(|r| TaskId::new(crate::domain::id::Partition::ZERO, r));
    (id, counters()).prop_map(|(task, counter)| Hop { task, counter })
}

fn names() -> impl Strategy<Value = Name> {
    "[a-z0-9-]{1,63}".prop_map(|text| Name::parse(&text).unwrap())
}

fn principals() -> impl Strategy<Value = Principal> {
    prop_oneof!["spiffe://[a-z0-9.]{1,9}/[a-zA-Z0-9]{1,9}", "oidc:[a-z0-9-]{1,9}:[a-z:/é]{1,9}"]
        .prop_map(|text| Principal::parse(&text).unwrap())
}

fn scopes() -> impl Strategy<Value = Scope> {
    prop_oneof![
        Just(Scope::All),
        names().prop_map(Scope::Class),
        principals().prop_map(Scope::Principal),
        // A `kid` of ours, and a subject key identifier: whole bytes in hex have one spelling.
        "[a-zA-Z0-9_-]{43}|([0-9a-f]{2}){1,32}".prop_map(Scope::Key),
    ]
}

fn agents() -> impl Strategy<Value = Agent> {
    prop_oneof![
        principals().prop_map(Agent::One),
        names().prop_map(Agent::Class),
        Just(Agent::parse("spiffe://prod.example/agents/*").unwrap()),
    ]
}

fn grants() -> impl Strategy<Value = Grant> {
    (vec("[a-z]{1,9}", 1..4), option::of(1u64..)).prop_map(|(actions, ttl)| {
        let mut entry = serde_json::json!({
            "type": "resource_access", "audience": "https://a.example", "actions": actions,
        });
        if let Some(ttl) = ttl {
            entry["max_ttl_seconds"] = ttl.into();
        }
        Grant::parse(&serde_json::json!([entry]).to_string()).unwrap()
    })
}

fn pins() -> impl Strategy<Value = Pin> {
    (principals(), text()).prop_map(|(principal, instance)| Pin { principal, instance })
}

prop_compose! {
    fn tasks()(
        (id, lineage, orchestrator, agent, class) in
            (tasks_ids(), vec(hops(), 0..4), names(), agents(), names()),
        (purpose, owner, step, reason) in (text(), text(), text(), text()),
        (labels, grant, tier, freshness) in
            (btree_map(text(), text(), 0..4), grants(), names(), 0u64..1 << 40),
        (checkpoint, pins, delegated_by, answer_key) in
            (vec(any::<u8>(), 0..64), vec(pins(), 0..3), option::of(principals()), any::<[u8; 32]>()),
        (deadline, heartbeat, silence_at, begun, commanded) in (
            stamps(),
            option::of((1u64..1 << 53).prop_map(Span::from_micros)),
            option::of(later()),
            later(),
            later(),
        ),
        (fails, instances, state, live_children, suspended_by_operator) in
            (any::<bool>(), any::<u32>(), 0usize..7, any::<u32>(), any::<bool>()),
        (epoch, branch, branch_floor) in (counters(), counters(), counters()),
    ) -> Task {
        Task {
            id, lineage, orchestrator, agent, class, purpose, owner, labels, grant, tier, step,
            checkpoint, deadline, heartbeat, silence_at, instances, pins, epoch, branch,
            branch_floor, live_children, reason, suspended_by_operator, delegated_by, answer_key,
            version: Stamp::ZERO,
            freshness: Span::from_millis(freshness),
            on_silence: if fails { OnSilence::Fail } else { OnSilence::Suspend },
            state: State::ALL[state],
            begun: Some(begun),
            commanded: Some(commanded),
        }
    }
}

prop_compose! {
    fn drafts()(
        (id, kind, holder, instance, audience) in
            (lease_ids(), 0..3usize, principals(), text(), text()),
        (key_thumbprint, jkt, public_key, jti) in
            (
                option::of(any::<[u8; 32]>()),
                option::of(any::<[u8; 32]>()),
                option::of(vec(any::<u8>(), 1..99)),
                any::<[u8; 16]>(),
            ),
        (grant, tier, freshness, path) in
            (grants(), names(), 0u64..1 << 40, vec(hops(), 1..5)),
        (reach, renewals, ceiling_seconds) in
            (vec(any::<[u8; 16]>().prop_map(Reach), 0..5), any::<u32>(), any::<u64>()),
        (signing_key, step, subject, actors, authority) in
            (text(), text(), principals(), vec(principals(), 0..4), option::of("[0-9a-f]{1,64}")),
        request in option::of(any::<[u8; 32]>()),
    ) -> Draft {
        Draft {
            first: None,
            id, request, holder, instance, key_thumbprint, jkt, public_key, audience, grant, tier, reach, jti,
            renewals, ceiling_seconds, signing_key, step, subject, actors, authority,
            kind: [Kind::AccessToken, Kind::X509Svid, Kind::JwtSvid][kind],
            freshness: Span::from_millis(freshness),
            path: Path::from_hops(path).unwrap(),
        }
    }
}

fn headers() -> impl Strategy<Value = Header> {
    // What is left out of a lease's times is that of its own commit; none has zero.
    let origins =
        || (later(), later()).prop_map(|(incarnation, stamp)| Origin { incarnation, stamp });
    let times = (1u64.., 1u64..=7, later(), origins());
    (origins(), stamps(), times).prop_map(|(origin, keep_until, times)| {
        let (expires_seconds, clamp, first_issue, lease_origin) = times;
        let expiry = Expiry { expires_seconds, clamp: Clamp::from_number(clamp).unwrap() };
        let credential = Some(CredentialTimes { first_issue, lease_origin, expiry });
        Header { origin, keep_until, credential, first_issue: None }
    })
}

fn value(header: &Header, body: &[u8]) -> Vec<u8> {
    [header_bytes(header).as_slice(), body].concat()
}

fn lease_of(draft: Draft, header: &Header) -> Lease {
    let times = header.credential.unwrap();
    Lease {
        draft,
        origin: header.origin,
        first_origin: times.lease_origin,
        first_issue: times.first_issue,
        expires_seconds: times.expiry.expires_seconds,
        clamp: times.expiry.clamp,
    }
}

proptest! {
    #[test]
    fn a_task_survives_its_bytes(given in tasks(), header in headers()) {
        let stored = Task { version: header.origin.stamp, ..given.clone() };
        prop_assert_eq!(task(&value(&header, &task_body(&given))).unwrap(), stored);
    }

    #[test]
    fn a_lease_survives_its_bytes(
        draft in drafts(), first in option::of(drafts()), (header, of_first) in (headers(), headers()),
    ) {
        let first = first.map(|first| Draft { id: draft.id, request: None, ..first });
        let first = first.map(|first| Box::new(lease_of(first, &of_first)));
        let draft = Draft { first, ..draft };
        let bytes = lease_bytes(&draft);
        let own = bytes.value(&header);
        prop_assert_eq!(terms_of(&own), Some(bytes.name));
        prop_assert!(is_corrupt(lease(draft.id, &own)), "its terms are gone");
        let stored = lease(draft.id, &[own, bytes.terms].concat()).unwrap();
        prop_assert_eq!(stored, lease_of(draft, &header));
    }

    #[test]
    fn a_lease_of_the_version_before_is_read(draft in drafts(), header in headers()) {
        let draft = Draft { request: None, ..draft };
        let bytes = lease_bytes(&draft);
        let record = wire::Lease::decode(&*[bytes.own, bytes.terms].concat()).unwrap();
        let id = draft.id.to_string();
        let record = wire::Lease { version: 1, id, terms: Vec::new().into(), ..record };
        let whole = value(&header, &record.encode_to_vec());
        prop_assert_eq!(terms_of(&whole), None);
        prop_assert_eq!(lease(draft.id, &whole).unwrap(), lease_of(draft, &header));
    }

    #[test]
    fn leases_that_differ_in_what_they_share_have_terms_of_other_names(one in drafts(), other in drafts()) {
        let own = Draft { jti: other.jti, request: other.request, id: other.id, ..one.clone() };
        prop_assert_eq!(lease_bytes(&one).name, lease_bytes(&own).name);
        let shared = Draft { step: format!("{}.", one.step), ..one.clone() };
        prop_assert_ne!(lease_bytes(&one).name, lease_bytes(&shared).name);
    }

    #[test]
    fn a_header_survives_its_bytes(given in headers(), body in tasks()) {
        let stored = header(&value(&given, &task_body(&body))).unwrap();
        prop_assert_eq!(stored.origin, given.origin);
        prop_assert_eq!(stored.keep_until, given.keep_until);
        prop_assert_eq!(stored.credential, given.credential);
        prop_assert_eq!(stored.first_issue, given.credential.map(|times| times.first_issue));
    }

    #[test]
    fn an_answer_survives_its_bytes(draft in drafts(), given in tasks(), header in headers()) {
        let replay = |subject| Replay {
            key: [0; 32], request_hash: [5; 32], subject, keep_until: None, checked: false,
        };
        let lease = lease_bytes(&draft);
        let length = Some((draft.id, lease.length()));
        let head = |subject| answer_head(&replay(subject), length).unwrap();
        let about_lease = [&head(Subject::Lease(Written::Renewed)), &lease.terms, &lease.own];
        let about_lease = about_lease.map(Vec::as_slice).concat();
        let answered = answer(&value(&header, &about_lease)).unwrap();
        prop_assert_eq!((answered.request_hash, answered.origin), ([5; 32], header.origin));
        prop_assert_eq!(answered.subject, Subject::Lease(Box::new(lease_of(draft, &header))));
        let of_task = Task { version: header.origin.stamp, ..given.clone() };
        let answered = answer(&value(&header, &head(Subject::Task(Box::new(given))))).unwrap();
        prop_assert_eq!(answered.subject, Subject::Task(Box::new(of_task)));
    }

    #[test]
    fn an_entry_survives_its_bytes(
        (id, over, scope, header) in (tasks_ids(), lease_ids(), scopes(), headers()),
        (epoch, branch, count, ended) in (counters(), counters(), any::<u64>(), origins()),
    ) {
        for given in [
            Entry::Fence(id, Fence { epoch, branch }),
            Entry::Watermark(scope.clone(), header.origin),
            Entry::Block(scope, count),
            Entry::Lease(over),
            Entry::End(ended.incarnation, ended.stamp),
        ] {
            let stored = codec_event::entry(&value(&header, &entry_body(&given))).unwrap();
            prop_assert_eq!(stored, given);
        }
    }

    #[test]
    fn an_event_survives_its_bytes(
        (tag, operation, id, over, scope) in
            (any::<u64>(), option::of(any::<[u8; 32]>()), tasks_ids(), lease_ids(), scopes()),
        (actor, cause, state, jti, header) in
            (text(), text(), 0usize..7, option::of(any::<[u8; 16]>()), headers()),
    ) {
        for kind in 1..=13 {
            let kind = codec_event::KINDS.iter().find(|(_, wire)| i32::from(*wire) == kind);
            let given = Event {
                tag, operation, jti,
                kind: kind.unwrap().0,
                entries: vec![Entry::Watermark(scope.clone(), header.origin), Entry::Lease(over)],
                actor: actor.clone(),
                cause: cause.clone(),
                task: Some(id),
                state: Some(State::ALL[state]),
                lease: Some(over),
                key_thumbprint: operation,
            };
            let stored = codec_event::event(&value(&header, &event_body(&given))).unwrap();
            prop_assert_eq!(stored.event, given);
            prop_assert_eq!(stored.stamp, header.origin.stamp);
            prop_assert_eq!(stored.incarnation, header.origin.incarnation);
            prop_assert_eq!(stored.keep_until, header.keep_until);
        }
    }

    #[test]
    fn class_15_no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200), at in any::<usize>()) {
        let good = value(&Header::default(), &task_body(&crate::testing::store_contract::samples::task(1)));
        let mut broken = good.clone();
        let at = at % broken.len();
        broken[at] = broken[at].wrapping_add(1);
        for bytes in [&bytes[..], &good[..at], &broken] {
            let id = LeaseId::new(crate::domain::id::Partition::ZERO, 1);
            let _ = (task(bytes), lease(id, bytes), answer(bytes), keyring(bytes), header(bytes));
            let _ = terms_of(bytes);
            let _ = (proved_key(bytes), codec_event::entry(bytes), codec_event::event(bytes));
        }
    }
}

fn is_corrupt<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Corrupt(_)))
}

fn good_task() -> wire::Task {
    task_to_wire(&crate::testing::store_contract::samples::task(1))
}

fn good_lease() -> wire::Lease {
    let bytes = lease_bytes(&crate::testing::store_contract::samples::draft(1, 1));
    let lease = wire::Lease::decode(&*[bytes.own, bytes.terms].concat()).unwrap();
    wire::Lease { stamp: 1, expires: 1, clamp: 1, ..lease }
}

fn read(record: &wire::Lease) -> Result<Lease, StoreError> {
    lease(LeaseId::new(crate::domain::id::Partition::ZERO, 1), &record.encode_to_vec())
}

#[test]
fn a_record_of_another_version_is_refused() {
    for version in [0, 3] {
        assert!(is_corrupt(read(&wire::Lease { version, ..good_lease() })));
    }
    for version in [0, VERSION + 1] {
        assert!(is_corrupt(task(&wire::Task { version, ..good_task() }.encode_to_vec())));
        assert!(is_corrupt(keyring(
            &wire::Keyring { version, ..Default::default() }.encode_to_vec()
        )));
        let good = wire::ProvedKey { version: 1, task: good_task().id, ..Default::default() };
        assert!(proved_key(&good.encode_to_vec()).is_ok());
        assert!(is_corrupt(proved_key(&wire::ProvedKey { version, ..good }.encode_to_vec())));
        let good = wire::Entry { version: 1, kind: 3, scope: "all".into(), ..Default::default() };
        assert!(codec_event::entry(&good.encode_to_vec()).is_ok());
        assert!(is_corrupt(codec_event::entry(&wire::Entry { version, ..good }.encode_to_vec())));
        let good = wire::Event { version: 1, kind: 1, ..Default::default() };
        assert!(codec_event::event(&good.encode_to_vec()).is_ok());
        assert!(is_corrupt(codec_event::event(&wire::Event { version, ..good }.encode_to_vec())));
        let subject = Some(wire::answer::Subject::Scope("all".into()));
        let request_hash = vec![0; 32].into();
        let good = wire::Answer { version: 1, request_hash, subject, ..Default::default() };
        assert!(answer(&good.encode_to_vec()).is_ok());
        assert!(is_corrupt(answer(&wire::Answer { version, ..good }.encode_to_vec())));
    }
}

#[test]
fn class_01_an_unknown_number_is_refused() {
    assert!(task(&good_task().encode_to_vec()).is_ok() && read(&good_lease()).is_ok());
    for wrong in [
        wire::Task { state: 0, ..good_task() },
        wire::Task { state: 8, ..good_task() },
        wire::Task { on_silence: 0, ..good_task() },
        wire::Task { on_silence: 3, ..good_task() },
        wire::Task { stamp: 1 << 53, ..good_task() },
        wire::Task { deadline: u64::MAX, ..good_task() },
        wire::Task { id: String::new(), ..good_task() },
        wire::Task { agent: String::new(), ..good_task() },
        wire::Task { agent_class: "Finance".into(), ..good_task() },
        wire::Task { grant: "[]".into(), ..good_task() },
        wire::Task { tier: String::new(), ..good_task() },
        wire::Task { answer_key: vec![0; 31].into(), ..good_task() },
        wire::Task { freshness_millis: u64::MAX / 1_000 + 1, ..good_task() },
    ] {
        assert!(is_corrupt(task(&wrong.encode_to_vec())), "{wrong:?}");
    }
    let once = Box::new(good_lease());
    assert!(read(&wire::Lease { first: Some(once.clone()), ..good_lease() }).is_ok());
    let twice = Box::new(wire::Lease { first: Some(once), ..good_lease() });
    for wrong in [
        wire::Lease { kind: 0, ..good_lease() },
        wire::Lease { kind: 4, ..good_lease() },
        wire::Lease { clamp: 0, ..good_lease() },
        wire::Lease { clamp: 8, ..good_lease() },
        wire::Lease { path: Vec::new(), ..good_lease() },
        wire::Lease { jti: vec![0; 15].into(), ..good_lease() },
        wire::Lease { key_thumbprint: vec![0; 20].into(), ..good_lease() },
        wire::Lease { jkt: vec![0; 20].into(), ..good_lease() },
        wire::Lease { reach: vec![vec![0; 15].into()], ..good_lease() },
        wire::Lease { holder: "nobody".into(), ..good_lease() },
        wire::Lease { request: vec![0; 31].into(), ..good_lease() },
        wire::Lease { stamp: 0, ..good_lease() },
        wire::Lease { version: 1, ..good_lease() },
        wire::Lease { first: Some(twice.clone()), ..good_lease() },
        wire::Lease { freshness_millis: u64::MAX / 1_000 + 1, ..good_lease() },
    ] {
        assert!(is_corrupt(read(&wrong)), "{wrong:?}");
    }
    for kind in [0, 6, -1] {
        let entry = wire::Entry { version: 1, kind, scope: "all".into(), ..Default::default() };
        assert!(is_corrupt(codec_event::entry(&entry.encode_to_vec())));
    }
    for kind in [0, 14, -1] {
        let event = wire::Event { version: 1, kind, ..Default::default() };
        assert!(is_corrupt(codec_event::event(&event.encode_to_vec())));
    }
    let state = wire::Event { version: 1, kind: 1, task_state: 8, ..Default::default() };
    assert!(is_corrupt(codec_event::event(&state.encode_to_vec())));
    let header = wire::Header { expires: 1, clamp: 8, ..Default::default() };
    assert!(is_corrupt(super::header(&header.encode_to_vec())));
    let nothing =
        wire::Answer { version: 1, request_hash: vec![0; 32].into(), ..Default::default() };
    assert!(is_corrupt(answer(&nothing.encode_to_vec())));
}

#[test]
fn every_kind_of_event_has_its_own_number() {
    let mut numbers: Vec<_> = codec_event::KINDS.iter().map(|(_, wire)| i32::from(*wire)).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=13).collect::<Vec<_>>());
    assert_eq!(codec_event::KINDS[0].0, EventKind::TaskBegun);
}
