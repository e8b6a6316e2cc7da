//! The server as it is set up, reached and spoken to.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::super::keys::Keys;
use super::super::script::Reply;
use super::super::{RIGHTS, RedisStore, Settings};
use super::{made_on, opened_on};
use crate::domain::clamp::{Clamp, Limit, Limits};
use crate::domain::event::EventKind;
use crate::domain::id::Partition;
use crate::domain::lattice::Entry;
use crate::domain::path::Origin;
use crate::domain::secret::Secret;
use crate::domain::time::{INFINITY, Span};
use crate::store::codec_broker::broker_bytes;
use crate::store::codec_lease::lease_bytes;
use crate::store::{
    Changed, Commit, Constants, Denial, Entries, Feed as _, Index, LEASE_KEPT, Lane, Outcome,
    Query, RecordKey, Replay, Store as _, StoreError, Subject, Write, Written, codec,
};
use crate::testing::entropy::SeededEntropy;
use crate::testing::redis::{PASSWORD, RedisServer};
use crate::testing::store_contract::constants;
use crate::testing::store_contract::feed::{announce, changed, record};
use crate::testing::store_contract::samples::{
    P, at, begin, commit, draft, event, guard, issue, kill, lease_id, replay, task, task_id,
};

async fn connect(settings: &Settings) -> Result<RedisStore, StoreError> {
    RedisStore::connect(settings, Arc::new(SeededEntropy::new(5))).await
}

/// What the server is told to be set up differently for.
async fn complaint(settings: &Settings) -> String {
    match connect(settings).await.err() {
        Some(StoreError::Misconfigured(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_store_is_made_once_and_nothing_is_opened_that_was_not_made() {
    let server = RedisServer::durable();
    let nothing = connect(&server.settings()).await.err();
    assert!(matches!(nothing, Some(StoreError::NotInitialised)));
    let f = made_on(&server).await;
    assert_eq!(f.upkeep.constants(), constants());
    f.done(begin(at(0), &task(1))).await;
    let entropy = Arc::new(SeededEntropy::new(1));
    let again = RedisStore::init(&server.settings(), constants(), entropy).await;
    assert!(again.is_ok());
    let other = Constants { delta_max: Span::from_seconds(7), ..constants() };
    let entropy = Arc::new(SeededEntropy::new(2));
    let changed = RedisStore::init(&server.settings(), other, entropy).await;
    assert!(matches!(changed, Err(StoreError::Misconfigured(_))));
    assert_eq!(f.upkeep.constants(), constants());
    assert!(f.record(RecordKey::Task(task_id(1))).await.is_some());
}

#[tokio::test]
async fn issue_is_one_round_trip() {
    let server = RedisServer::durable();
    let f = made_on(&server).await;
    let begun = f.done(begin(at(0), &task(1))).await.origin.stamp;
    let mut monitor = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    write!(monitor, "AUTH test {PASSWORD}\r\nMONITOR\r\n").unwrap();
    let mut seen = BufReader::new(monitor).lines().map(Result::unwrap);
    assert_eq!((seen.next().unwrap(), seen.next().unwrap()), ("+OK".into(), "+OK".into()));
    let issued = Commit {
        guards: vec![guard(RecordKey::Task(task_id(1)), Some(begun))],
        replay: Some(replay(1, Subject::Lease(Written::Renewed))),
        event: Some(event(EventKind::CredentialIssued, 1)),
        ..issue(at(1), &draft(1, 1), 60)
    };
    f.done(issued).await;
    server.command(&["ECHO", "that was it"]);
    let sent: Vec<_> = seen.take_while(|line| !line.contains("that was it")).collect();
    let from_outside = |line: &&String| !line.contains(" lua] ") && !line.contains("\"AUTH\"");
    let sent: Vec<_> = sent.iter().filter(from_outside).collect();
    assert_eq!(sent.len(), 1, "{sent:?}");
}

/// Between the look at its beat and the removal.
#[tokio::test]
async fn a_record_that_was_written_meanwhile_is_not_removed() {
    let server = RedisServer::durable();
    made_on(&server).await;
    let store = connect(&server.settings()).await.unwrap();
    store.beat(&record(10, 1)).await.unwrap();
    store.beat(&record(10, 2)).await.unwrap();
    let remove = async |beat| {
        let seen = record(10, beat);
        let mut call = store.registry();
        call.arg(seen.instance.to_string()).arg(broker_bytes(&seen));
        let value = store.feed.run(&store.scripts.forget, &call).await.unwrap();
        Reply::parse(value, Partition::ZERO).unwrap().0
    };
    assert_eq!(remove(1).await, "moved");
    assert_eq!(store.brokers().await.unwrap().1, [record(10, 2)]);
    assert_eq!(remove(2).await, "forgotten");
    assert_eq!(store.brokers().await.unwrap().1, []);
}

#[tokio::test]
async fn who_watches_is_told_to_look_after_the_connection_broke_and_then_of_what_follows() {
    let server = RedisServer::durable();
    let f = made_on(&server).await;
    let mut changes = f.feed.changes(Changed::Partition(P));
    changed(&mut changes).await;
    server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    changed(&mut changes).await;
    f.done(announce(at(1), 1)).await;
    changed(&mut changes).await;
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let server = RedisServer::durable();
    let f = made_on(&server).await;
    f.done(commit(at(0))).await;
    server.command(&["SCRIPT", "FLUSH"]);
    f.done(commit(at(1))).await;
    f.done(kill(at(2), Vec::new())).await;
}

#[tokio::test]
async fn class_07_an_answer_that_does_not_come_is_an_error_and_the_request_may_be_tried_again() {
    let server = RedisServer::durable();
    let f = made_on(&server).await;
    let settings = Settings { response_timeout: Span::from_millis(200), ..server.settings() };
    let hasty = connect(&settings).await.unwrap();
    let entry = Entry::Lease(lease_id(1));
    let scope = || Subject::Scope("all".to_owned());
    let revoke = || Commit { replay: Some(replay(1, scope())), ..kill(at(1), vec![entry.clone()]) };
    hasty.commit(commit(at(0))).await.unwrap();
    hasty.commit(kill(at(0), Vec::new())).await.unwrap();
    server.command(&["CLIENT", "PAUSE", "600000", "WRITE"]);
    assert!(matches!(hasty.commit(revoke()).await, Err(StoreError::Unavailable(_))));
    server.command(&["CLIENT", "UNPAUSE"]);
    // Whether the first try was written is unknown; both answers say that it is now.
    let again = f.store.commit(revoke()).await.unwrap();
    assert!(matches!(again, Outcome::Done(_) | Outcome::Replayed(_)), "{again:?}");
    let renew = Commit { unrevoked: Some(lease_id(1)), ..commit(at(2)) };
    assert_eq!(f.denied(renew).await, Some(Denial::LeaseOver));
}

#[tokio::test]
async fn a_full_server_refuses_to_issue_and_still_ends() {
    let server = RedisServer::durable();
    let f = made_on(&server).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let before = f.stamp().await;
    let refused = f.store.commit(issue(at(0), &draft(1, 1), 60)).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Unavailable(why) if why.contains("OOM")), "{refused}");
    assert_eq!(f.stamp().await, before);
    f.done(kill(at(1), vec![Entry::Lease(lease_id(1))])).await;
}

#[tokio::test]
async fn a_server_that_evicts_is_refused() {
    let server = RedisServer::durable();
    made_on(&server).await;
    server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let problem = complaint(&server.settings()).await;
    assert!(problem.contains("noeviction"), "{problem}");
}

#[tokio::test]
async fn class_24_the_user_may_do_what_is_needed_and_nothing_else() {
    let server = RedisServer::durable();
    made_on(&server).await;
    for right in RIGHTS.into_iter().filter(|right| !["evalsha", "script|load"].contains(right)) {
        server.command(&["ACL", "SETUSER", "leasehold", &format!("-{right}")]);
        let problem = complaint(&server.settings()).await;
        assert!(problem.contains(right), "{right}: {problem}");
        server.command(&["ACL", "SETUSER", "leasehold", &format!("+{right}")]);
    }
    server.command(&["ACL", "SETUSER", "leasehold", "resetchannels"]);
    let problem = complaint(&server.settings()).await;
    assert!(problem.contains("publish") && problem.contains("subscribe"), "{problem}");
    server.command(&["ACL", "SETUSER", "leasehold", "&{lh:*}:*"]);
    connect(&server.settings()).await.unwrap();
    for words in [
        &["FLUSHALL"][..],
        &["EVAL", "return 1", "0"],
        &["CONFIG", "SET", "appendfsync", "no"],
        &["SCRIPT", "FLUSH"],
        &["KEYS", "*"],
        &["ACL", "LIST"],
        &["GET", "lh:00:meta"],
        &["SET", "elsewhere", "1"],
        &["PUBLISH", "elsewhere", "1"],
        &["SUBSCRIBE", "elsewhere"],
        &["SHUTDOWN"],
    ] {
        let refused = server.command_as_leasehold(words).unwrap_err();
        assert_eq!(refused.code(), Some("NOPERM"), "{words:?}");
    }
}

#[tokio::test]
async fn class_07_a_server_that_would_drop_its_own_data_when_it_loads_it_is_refused() {
    let server = RedisServer::durable();
    made_on(&server).await;
    for rights in ["-hset", "-exec", "resetkeys"] {
        server.command(&["ACL", "SETUSER", "default", rights]);
        let problem = complaint(&server.settings()).await;
        assert!(problem.contains("`default`"), "{problem}");
        server.command(&["ACL", "SETUSER", "default", "~*", "+@all"]);
    }
    connect(&server.settings()).await.unwrap();
}

#[test]
fn class_24_every_right_is_one_that_a_script_uses() {
    let text = [
        include_str!("../common.lua"),
        include_str!("../commit.lua"),
        include_str!("../read.lua"),
        include_str!("../prune.lua"),
        include_str!("../incarnation.lua"),
        include_str!("../make.lua"),
        include_str!("../recover.lua"),
        include_str!("../leases.lua"),
        include_str!("../page.lua"),
        include_str!("../beat.lua"),
        include_str!("../brokers.lua"),
        include_str!("../forget.lua"),
        include_str!("../identify.lua"),
        include_str!("../constants.lua"),
    ]
    .concat();
    let calls = text.split("call('").skip(1).filter_map(|rest| rest.split('\'').next());
    let mut used: BTreeSet<_> = calls.map(str::to_lowercase).collect();
    let sent = ["evalsha", "script|load", "config|get", "acl|dryrun", "subscribe", "ping"];
    used.extend(sent.map(str::to_owned));
    assert_eq!(used, RIGHTS.map(str::to_owned).into());
}

#[tokio::test]
async fn class_17_no_error_shows_the_password() {
    let server = RedisServer::durable();
    let mut settings = server.settings();
    settings.password = Some(Secret::from("hunter2".to_owned()));
    let problem = complaint(&settings).await;
    assert!(problem.contains("password") && !problem.contains("hunter2"), "{problem}");
    settings.url = settings.url.replace("redis://", "redis://leasehold:hunter2@");
    let problem = complaint(&settings).await;
    assert!(problem.contains("url") && !problem.contains("hunter2"), "{problem}");
    settings.password = None;
    settings.url = "redis//leasehold:hunter2".to_owned();
    assert!(!complaint(&settings).await.contains("hunter2"));
}

#[tokio::test]
async fn class_24_tls_is_checked_against_the_roots_that_are_given() {
    let server = RedisServer::with_tls();
    let f = made_on(&server).await;
    f.done(commit(at(0))).await;
    let stranger = RedisServer::with_tls();
    let other = Settings { ca_file: stranger.settings().ca_file, ..server.settings() };
    assert!(matches!(connect(&other).await.err(), Some(StoreError::Unavailable(_))));
    let none = Settings { ca_file: None, ..server.settings() };
    assert!(matches!(connect(&none).await.err(), Some(StoreError::Unavailable(_))));
    let insecure =
        Settings { url: format!("{}#insecure", server.settings().url), ..server.settings() };
    assert!(complaint(&insecure).await.contains("url"));
    let plain = server.settings().url.replace("rediss", "redis");
    assert!(complaint(&Settings { url: plain, ..server.settings() }).await.contains("rediss"));
    let missing = Settings { ca_file: Some("/nowhere/ca.pem".into()), ..server.settings() };
    assert!(complaint(&missing).await.contains("/nowhere/ca.pem"));
}

#[tokio::test]
async fn a_commit_that_makes_no_sense_writes_nothing() {
    let server = RedisServer::durable();
    let f = made_on(&server).await;
    let before = f.stamp().await;
    let no_times = Commit { writes: vec![Write::Lease(Arc::new(draft(1, 1)))], ..commit(at(0)) };
    let mut two = issue(at(0), &draft(1, 1), 60);
    two.writes.push(Write::Lease(Arc::new(draft(2, 1))));
    let no_lease =
        Commit { replay: Some(replay(1, Subject::Lease(Written::Renewed))), ..commit(at(0)) };
    let end = kill(at(0), vec![Entry::End(at(0), at(0))]);
    let no_stamps_left = commit(INFINITY);
    for senseless in [no_times, two, no_lease, end, no_stamps_left] {
        assert!(f.store.commit(senseless).await.is_err());
    }
    assert_eq!(f.stamp().await, before);
}

/// Redis drops by its own clock.
#[tokio::test]
async fn what_leases_share_is_kept_longer_than_each_of_them() {
    let server = RedisServer::durable();
    let f = made_on(&server).await;
    let keys = Keys(P);
    let until = |key: String| -> u64 {
        redis::from_redis_value(server.command(&["PEXPIRETIME", &key])).unwrap()
    };
    let terms = keys.terms(&lease_bytes(&draft(1, 1)).name);
    let mut written = BTreeSet::new();
    // The third is over in the very instant in which the terms of the first would be.
    for (number, time) in [(1, 0), (2, 1), (3, 3_600), (4, 3_601), (5, 60_000)] {
        let mut issue = issue(at(time), &draft(number, 1), 60);
        issue.times.as_mut().unwrap().ceiling_key = [u8::try_from(number).unwrap(); 32];
        f.done(issue).await;
        let lease = keys.record(&RecordKey::Lease(lease_id(number)));
        assert!(until(terms.clone()) > until(lease), "{number}");
        written.insert(until(terms.clone()));
    }
    assert_eq!(written.len(), 3, "only where that would no longer be so");
    server.command(&["DEL", &terms]);
    let lost = f.store.read(Query::new(P, vec![RecordKey::Lease(lease_id(5))], Entries::None));
    assert!(matches!(lost.await, Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn what_is_over_leaves_the_front_of_a_tasks_list_two_for_one_that_comes() {
    let server = RedisServer::durable();
    let f = made_on(&server).await;
    let list = Keys(P).leases(task_id(1));
    let length = || -> u64 { redis::from_redis_value(server.command(&["LLEN", &list])).unwrap() };
    let issue = async |number: u8, time, ttl| {
        let mut issue = issue(at(time), &draft(number.into(), 1), ttl);
        issue.times.as_mut().unwrap().ceiling_key = [number; 32];
        f.done(issue).await;
    };
    for number in 1..=6 {
        issue(number, 0, 60).await;
    }
    let over = LEASE_KEPT.seconds() + 60;
    issue(7, over - 1, 60).await;
    assert_eq!(length(), 7, "all of them live");
    for (number, left) in [(8, 6), (9, 5), (10, 4), (11, 5)] {
        issue(number, over, 60).await;
        assert_eq!(length(), left, "{number}");
    }
    assert_eq!(f.list(Index::Leases(task_id(1)), "", 10).await.len(), 5);
    let until: u64 = redis::from_redis_value(server.command(&["PEXPIRETIME", &list])).unwrap();
    assert_eq!(until, at(2 * over).micros() / 1_000, "with the last of them");
}

#[tokio::test]
async fn leases_that_the_version_before_listed_are_listed_until_they_are_over() {
    let server = RedisServer::durable();
    let f = made_on(&server).await;
    for number in [1, 3] {
        f.done(issue(at(0), &draft(number, 1), 60)).await;
    }
    let (index, named) = (Index::Leases(task_id(1)), Keys(P).named_leases(task_id(1)));
    let ids = [1, 2, 3, 4].map(|number| lease_id(number).to_string());
    let over = at(100).micros() / 1_000;
    for (id, until) in [(&ids[1], over), (&ids[2], over), (&ids[3], over + 1)] {
        server.command(&["ZADD", &named, &until.to_string(), id]);
    }
    assert_eq!(f.list(index, "", 10).await, ids, "each once");
    assert_eq!(f.list(index, &ids[0], 2).await, ids[1..3]);
    f.done(commit(at(100))).await;
    assert_eq!(f.list(index, "", 10).await, [&ids[0], &ids[2], &ids[3]].map(String::clone));
}

#[tokio::test]
async fn two_brokers_see_each_other_at_once() {
    let server = RedisServer::durable();
    let (f, g) = (made_on(&server).await, opened_on(&server).await);
    f.done(kill(at(0), vec![Entry::Lease(lease_id(1))])).await;
    let renew = Commit { unrevoked: Some(lease_id(1)), lane: Lane::Ordinary, ..commit(at(1)) };
    assert_eq!(g.denied(renew).await, Some(Denial::LeaseOver));
}

#[test]
fn an_answer_begins_with_its_version_and_the_hash_of_its_request() {
    let answer = Replay { keep_until: None, ..replay(7, Subject::Scope("all".to_owned())) };
    let body = codec::answer_head(&answer, None).unwrap();
    assert_eq!(body[..4], [0x48, 1, 0x52, 32]);
    assert_eq!(body[4..36], [7; 32]);
}

/// The one rule that is written twice: in the domain, and in the script.
#[test]
fn class_04_the_script_clamps_as_the_domain_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = RedisServer::lossy();
    let f = runtime.block_on(made_on(&server));
    let limit = (0..3u8, prop_oneof![0..200u64, 4_102_444_700..4_102_445_200u64, any::<u64>()]);
    let limits = proptest::collection::vec(prop::option::of(limit), 7);
    let Origin { incarnation, stamp: first } =
        runtime.block_on(f.done(issue(at(0), &draft(1, 1), 60))).origin;
    let step = AtomicU64::new(1);
    let mut runner = TestRunner::default();
    let checked = runner.run(&(limits, 0..100u64, 0..1_000_000u64), |(limits, minimum, micros)| {
        let time = at(step.fetch_add(1, Ordering::Relaxed));
        let stamp = time.plus(Span::from_micros(micros));
        let limits = Clamp::ALL.into_iter().zip(limits).filter_map(|(clamp, limit)| {
            let limit = match limit? {
                (0, seconds) => Limit::After(seconds),
                (1, second) => Limit::At(second),
                (_, seconds) => Limit::AfterFirstIssue(seconds),
            };
            Some((clamp, limit))
        });
        let mut issue = issue(stamp, &draft(1, 1), 0);
        let times = issue.times.as_mut().unwrap();
        times.limits = Limits { limits: limits.collect(), minimum_seconds: minimum };
        // Far below where sums stop being exact, and above every sensible time.
        for (_, limit) in &mut times.limits.limits {
            let (Limit::After(s) | Limit::At(s) | Limit::AfterFirstIssue(s)) = limit;
            *s = (*s).min(1 << 52);
        }
        let times = times.clone();
        let outcome = runtime.block_on(f.store.commit(issue)).unwrap();
        let expected = times.resolve(Origin { incarnation, stamp }, first);
        let outcome = match outcome {
            Outcome::Done(receipt) => Ok(receipt.credential.unwrap()),
            Outcome::Denied(denial) => Err(denial),
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        prop_assert_eq!(outcome, expected);
        Ok(())
    });
    checked.unwrap();
}
