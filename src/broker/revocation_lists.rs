//! Revocation lists: for verifiers that do not subscribe, which of the certificates that live long are dead.
//!
//! ```text
//!  newest list's number → every partition: certificates, in pages → what can hit them → Deaths → the next number → sign
//!         ▲                                                                                  │ stale: from the start
//!         └──────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Nothing is written when something dies: ending a task stays one write, and the lists are made by judging what was issued.
//! A list holds for all brokers over one store: each takes the next number only from the number that it read first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use futures_util::future::try_join_all;
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::broker::commit::{Attempt, Committed};
use crate::broker::error::BrokerError;
use crate::domain::certificate::{Deaths, IssuedCertificate, LONGEST_UNLISTED_SECONDS, Revocation};
use crate::domain::id::Partition;
use crate::domain::time::{Span, Stamp};
use crate::keys::{IssuerCa, Keys};
use crate::mint::{self, ListTimes};
use crate::store::{Commit, Entries, Guard, Lane, Query, Record, RecordKey, StoreError, Write};
use crate::telemetry::metrics;

/// So many certificates are read at once; what can hit them has to fit into one call of a script.
const PAGE: usize = 64;
/// How often a list is made anew because another broker was faster.
const ATTEMPTS: usize = 16;
/// How long after one that failed the next request tries.
const PAUSE: Span = Span::from_seconds(1);

/// What configuration says of revocation lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListSettings {
    /// No list is served that was made from what was read longer ago.
    pub max_age: Span,
    /// How long a list holds: `nextUpdate` comes so long after it was made.
    pub lifetime: Span,
    /// More on one list are an error.
    pub most_entries: usize,
}

impl ListSettings {
    /// A list of so many entries has some ten megabytes.
    pub const MOST_ENTRIES: usize = 250_000;
}

impl Default for ListSettings {
    fn default() -> Self {
        let (max_age, lifetime) = (Span::from_seconds(10), Span::from_seconds(300));
        Self { max_age, lifetime, most_entries: Self::MOST_ENTRIES }
    }
}

/// The list of one authority.
#[derive(Clone, Debug)]
pub struct RevocationList {
    /// The list in DER.
    pub der: Arc<[u8]>,
    /// Its CRL number: a later list has a higher one, whichever broker made it.
    pub number: u64,
}

/// What this broker made last.
#[derive(Default)]
pub(super) struct Lists {
    newest: ArcSwapOption<Made>,
    /// One is made at a time.
    making: tokio::sync::Mutex<()>,
    failed: Mutex<Option<Span>>,
}

/// The lists of all authorities, made together.
struct Made {
    /// When the first of what they rest on was asked for, by the broker's own clock.
    as_of: Span,
    /// The same in the store's time.
    made: Stamp,
    lists: BTreeMap<String, RevocationList>,
    dead: BTreeMap<String, Dead>,
}

/// The dead certificates of one authority, by their `jti`.
type Dead = BTreeMap<[u8; 16], Listed>;

/// An entry of a list.
#[derive(Clone, Copy)]
struct Listed {
    revocation: Revocation,
    expires_seconds: u64,
}

impl Broker {
    /// The list of the authority with this subject key identifier, in hex; `None` if there is no such authority. It is made
    /// anew if the last one is too old: once, however many ask. That of a root of ours lies ready.
    ///
    /// # Errors
    /// The store's; then there is none that may be served.
    pub async fn revocation_list(
        &self,
        key_id: &str,
    ) -> Result<Option<RevocationList>, BrokerError> {
        if let Some(list) = self.keys().root_list(key_id) {
            return Ok(Some(RevocationList { der: list.der().clone(), number: list.number() }));
        }
        let signs = |ca: &IssuerCa| ca.key_id() == key_id && ca.authority().signs_lists();
        if !self.keys().issuers().any(signs) {
            return Ok(None);
        }
        let made = self.lists_no_older_than(self.settings.lists.max_age).await?;
        Ok(made.lists.get(key_id).cloned())
    }

    /// Makes the lists anew before they are too old, where certificates are issued that need them.
    ///
    /// # Errors
    /// The store's.
    pub async fn refresh_revocation_lists(&self) -> Result<(), BrokerError> {
        let is_long = |ttl| ttl > LONGEST_UNLISTED_SECONDS;
        if self.settings.tiers.iter().any(|tier| is_long(tier.ttl_seconds)) {
            let half = Span::from_micros(self.settings.lists.max_age.micros() / 2);
            self.lists_no_older_than(half).await?;
        }
        if let Some(newest) = self.lists.newest.load_full() {
            let age = self.age(&newest);
            metrics::revocation_lists(age.to_std(), newest.dead.values().map(Dead::len).sum());
        }
        Ok(())
    }

    async fn lists_no_older_than(&self, age: Span) -> Result<Arc<Made>, BrokerError> {
        // INVARIANT (fresh list): a list is handed out only by here, and only while all that it rests on is this young.
        let fresh = || self.lists.newest.load_full().filter(|made| self.age(made) <= age);
        if let Some(made) = fresh() {
            return Ok(made);
        }
        let _turn = self.lists.making.lock().await;
        if let Some(made) = fresh() {
            return Ok(made);
        }
        let since = |failed| self.parts.clock.elapsed().micros().saturating_sub(failed);
        let failed = *self.lists.failed.lock();
        if failed.is_some_and(|failed| since(failed.micros()) < PAUSE.micros()) {
            return Err(StoreError::Unavailable("it did not a moment ago".to_owned()).into());
        }
        let made = self.make_lists().await;
        *self.lists.failed.lock() = made.is_err().then(|| self.parts.clock.elapsed());
        let made = Arc::new(made?);
        self.lists.newest.store(Some(Arc::clone(&made)));
        Ok(made)
    }

    fn age(&self, made: &Made) -> Span {
        let elapsed = self.parts.clock.elapsed().micros();
        Span::from_micros(elapsed.saturating_sub(made.as_of.micros()))
    }

    async fn make_lists(&self) -> Result<Made, BrokerError> {
        for _ in 0..ATTEMPTS {
            let as_of = self.parts.clock.elapsed();
            let (newest, made) = self.newest_number().await?;
            let partitions = self.parts.upkeep.constants().partitions.all();
            let found = try_join_all(partitions.map(|partition| self.dead_in(partition))).await?;
            let dead = self.with_former(found.into_iter().flatten())?;
            // The store's time keeps the numbers rising though the record should be lost.
            let number = newest.map_or(0, |(number, _)| number).saturating_add(1);
            let number = number.max(made.micros());
            if self.take_number(number, newest.map(|(_, version)| version)).await? {
                let lists = self.sign_lists(number, made, &dead).await?;
                return Ok(Made { as_of, made, lists, dead });
            }
        }
        Err(BrokerError::Contended)
    }

    /// The number of the newest list and the version of its record, if there is one; and the store's present.
    async fn newest_number(&self) -> Result<(Option<(u64, Stamp)>, Stamp), BrokerError> {
        let records = vec![RecordKey::RevocationList];
        let query = Query::new(Partition::ZERO, records, Entries::None);
        let snapshot = self.read(query).await?;
        let newest = match snapshot.records.into_iter().flatten().next() {
            Some(Record::RevocationList(number, version)) => Some((number, version)),
            _ => None,
        };
        Ok((newest, snapshot.meta.now))
    }

    /// The dead certificates of a partition; of a closed one nothing is told.
    async fn dead_in(
        &self,
        partition: Partition,
    ) -> Result<Vec<(IssuedCertificate, Revocation)>, BrokerError> {
        let (mut dead, mut after) = (Vec::new(), Stamp::ZERO);
        loop {
            let page = self.parts.upkeep.certificates(partition, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(dead) };
            after = last.origin.stamp;
            let snapshot = self.read(what_can_hit(partition, &page)).await?;
            let deaths = Deaths::of(snapshot.lattice, snapshot.raised);
            let judged = page.into_iter().filter_map(|certificate| {
                let revocation = deaths.of_certificate(&certificate)?;
                Some((certificate, revocation))
            });
            dead.extend(judged);
        }
    }

    /// The dead by their authorities, and those of the last list that were not yet on one from after their expiry (RFC 5280
    /// section 3.3). What was said of one stays so.
    fn with_former(
        &self,
        found: impl Iterator<Item = (IssuedCertificate, Revocation)>,
    ) -> Result<BTreeMap<String, Dead>, BrokerError> {
        let mut dead = BTreeMap::<String, Dead>::new();
        if let Some(former) = self.lists.newest.load_full() {
            let stays = |listed: &Listed| former.made < Stamp::from_seconds(listed.expires_seconds);
            for (authority, entries) in &former.dead {
                let entries = entries.iter().filter(|(_, listed)| stays(listed));
                dead.insert(authority.clone(), entries.map(|(jti, l)| (*jti, *l)).collect());
            }
        }
        for (certificate, revocation) in found {
            let IssuedCertificate { draft, expires_seconds, .. } = certificate;
            let entries = dead.entry(draft.authority).or_default();
            entries.entry(draft.jti).or_insert(Listed { revocation, expires_seconds });
            let most = self.settings.lists.most_entries;
            if entries.len() > most {
                return Err(BrokerError::Mint(format!(
                    "more than {most} certificates that were revoked before they expired: give their tier a shorter `ttl`"
                )));
            }
        }
        Ok(dead)
    }

    /// Whether this broker's list is the next one.
    // INVARIANT (numbers rise): what a list says was read after everything that a list with a lower number says.
    async fn take_number(&self, number: u64, known: Option<Stamp>) -> Result<bool, BrokerError> {
        let commit = Commit {
            guards: vec![Guard { key: RecordKey::RevocationList, version: known }],
            writes: vec![Write::RevocationList(number)],
            ..Commit::new(Partition::ZERO, Lane::Ordinary)
        };
        let attempt = self.attempt(commit).await?;
        Ok(matches!(attempt, Attempt::Settled(Committed::Done(_))))
    }

    /// Long lists hold up no other request.
    async fn sign_lists(
        &self,
        number: u64,
        made: Stamp,
        dead: &BTreeMap<String, Dead>,
    ) -> Result<BTreeMap<String, RevocationList>, BrokerError> {
        let (keys, lifetime) = (self.keys(), self.settings.lists.lifetime);
        let dead = dead.clone();
        let signed =
            tokio::task::spawn_blocking(move || sign_all(&keys, (number, made, lifetime), &dead));
        signed.await.map_err(|error| BrokerError::Mint(error.to_string()))?
    }
}

fn sign_all(
    keys: &Keys,
    (number, made, lifetime): (u64, Stamp, Span),
    dead: &BTreeMap<String, Dead>,
) -> Result<BTreeMap<String, RevocationList>, BrokerError> {
    let mut lists = BTreeMap::new();
    for ca in keys.issuers().filter(|ca| ca.authority().signs_lists() && made < ca.life().expires())
    {
        let times = ListTimes { made, expires: made.plus(lifetime).min(ca.life().expires()) };
        let entries = dead.get(ca.key_id()).into_iter().flatten();
        let entries = entries.map(|(jti, listed)| (jti, listed.revocation));
        let der = mint::revocation_list(ca, (number, times), entries);
        let der = der.map_err(|error| BrokerError::Mint(error.to_string()))?.into();
        lists.insert(ca.key_id().to_owned(), RevocationList { der, number });
    }
    Ok(lists)
}

fn what_can_hit(partition: Partition, page: &[IssuedCertificate]) -> Query {
    let drafts = || page.iter().map(|certificate| &certificate.draft);
    let tasks: BTreeSet<_> = drafts().flat_map(|d| d.path.hops().map(|hop| hop.task)).collect();
    let reach: BTreeSet<_> = drafts().flat_map(|draft| &draft.reach).copied().collect();
    let leases: BTreeSet<_> = drafts().map(|draft| draft.lease).collect();
    let entries = Entries::Raised {
        tasks: tasks.into_iter().collect(),
        reach: reach.into_iter().collect(),
        leases: leases.into_iter().collect(),
    };
    Query::new(partition, Vec::new(), entries)
}
