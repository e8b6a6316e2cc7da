//! What every store must do: one body of tests, run on each implementation by [`crate::store_contract!`].
//!
//! Time is driven by `at_least`, far in the future, so that a store's own clock never matters.

pub mod certificates;
pub mod expiry;
pub mod feed;
pub mod guards;
pub mod indexes;
pub mod replays;
pub mod revocations;
pub mod samples;
pub mod writes;

use std::any::Any;
use std::sync::Arc;

use crate::domain::id::PartitionCount;
use crate::domain::time::Span;
use crate::domain::time::Stamp;
use crate::store::{
    Answer, Commit, Constants, Denial, Entries, Feed, Index, Listing, Outcome, Query, Receipt,
    Record, RecordKey, Snapshot, Store, Upkeep,
};
use samples::P;

/// An empty store, and whatever has to live as long as it does.
pub struct Fixture {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The same store.
    pub upkeep: Arc<dyn Upkeep>,
    /// The same store, by a handle of another broker where there can be one.
    pub feed: Arc<dyn Feed>,
    /// Dropped after the test: a folder, a server.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// With what the stores under test are made: 4 partitions, `delta_max` 30 s.
pub fn constants() -> Constants {
    Constants { partitions: PartitionCount::new(4).unwrap(), delta_max: Span::from_seconds(30) }
}

impl Fixture {
    /// A store that one process has.
    pub fn of<S>(store: Arc<S>, keep: impl Any + Send + Sync) -> Self
    where
        S: Store + Upkeep + Feed + 'static,
    {
        Self { store: store.clone(), upkeep: store.clone(), feed: store, keep: Box::new(keep) }
    }

    /// A commit that must be written.
    #[track_caller]
    pub fn done(&self, commit: Commit) -> impl Future<Output = Receipt> {
        let at = std::panic::Location::caller();
        async move {
            let done = match self.store.commit(commit).await {
                Ok(Outcome::Done(receipt)) => Ok(receipt),
                other => Err(format!("{at}: {other:?}")),
            };
            done.unwrap()
        }
    }

    /// What a commit was refused for, if it was.
    pub async fn denied(&self, commit: Commit) -> Option<Denial> {
        match self.store.commit(commit).await.unwrap() {
            Outcome::Denied(denial) => Some(denial),
            Outcome::Done(_) | Outcome::Replayed(_) | Outcome::Stale(_) => None,
        }
    }

    /// The earlier answer, if there was one.
    pub async fn replayed(&self, commit: Commit) -> Option<Answer> {
        match self.store.commit(commit).await.unwrap() {
            Outcome::Replayed(answer) => Some(*answer),
            Outcome::Done(_) | Outcome::Denied(_) | Outcome::Stale(_) => None,
        }
    }

    /// The fresh records, if others had moved on.
    pub async fn stale(&self, commit: Commit) -> Option<Vec<(RecordKey, Option<Record>)>> {
        match self.store.commit(commit).await.unwrap() {
            Outcome::Stale(fresh) => Some(fresh),
            Outcome::Done(_) | Outcome::Denied(_) | Outcome::Replayed(_) => None,
        }
    }

    /// Partition [`P`] as it stands.
    pub async fn snapshot(&self, records: Vec<RecordKey>, entries: Entries) -> Snapshot {
        self.store.read(Query::new(P, records, entries)).await.unwrap()
    }

    /// One record of partition [`P`].
    pub async fn record(&self, key: RecordKey) -> Option<Record> {
        self.snapshot(vec![key], Entries::None).await.records.remove(0)
    }

    /// Stamp of the last commit in partition [`P`].
    pub async fn stamp(&self) -> Stamp {
        self.snapshot(Vec::new(), Entries::None).await.meta.stamp
    }

    /// Names in an index of partition [`P`].
    pub async fn list(&self, index: Index, after: &str, limit: usize) -> Vec<String> {
        let listing = Listing { partition: P, index, after: after.to_owned(), limit };
        self.store.list(listing).await.unwrap()
    }
}

/// Makes a test of every claim of the contract; the argument is an `async fn() -> Fixture`.
#[macro_export]
macro_rules! store_contract {
    ($fixture:path) => {
        $crate::store_claims! { $fixture, guards:
            class_07_a_commit_that_was_decided_under_another_floor_is_stale,
            refusals_come_in_the_order_of_the_contract,
            class_06_a_record_that_has_moved_on_refuses_and_every_guarded_one_comes_back_fresh,
            a_record_that_must_not_exist_refuses,
            class_07_a_missing_record_is_not_the_version_that_was_read,
            class_06_of_concurrent_commits_on_one_version_exactly_one_is_written,
            class_05_a_commit_at_or_after_its_time_is_overdue,
            class_06_a_blocked_scope_refuses_until_it_is_lifted,
            class_06_a_watermark_refuses_every_origin_up_to_its_own,
            class_06_a_lease_that_is_over_refuses,
            class_08_a_key_belongs_to_one_task_of_a_tree,
            class_23_of_many_requests_with_one_proof_exactly_one_is_written,
            class_04_no_credential_outlives_the_ceiling_from_first_issue,
            class_04_less_than_the_minimum_is_refused,
            class_04_expiry_counts_from_the_stamp_of_the_commit,
        }
        $crate::store_claims! { $fixture, replays:
            a_replay_gets_the_first_answer_and_writes_nothing,
            class_23_another_request_under_the_same_id_is_refused,
            class_06_a_checked_replay_goes_through_the_checks_again,
            the_answer_to_an_issue_keeps_its_times,
            the_answer_to_an_issue_is_its_lease_and_nothing_beside,
            class_23_a_request_that_issued_is_refused_with_another_body,
            class_23_a_lease_that_its_request_does_not_name_is_not_written,
            a_lease_that_says_no_request_answers_none,
            a_lease_that_was_renewed_still_answers_the_request_that_named_it,
            the_answer_about_a_scope_comes_back,
            concurrent_requests_of_one_id_act_once,
        }
        $crate::store_claims! { $fixture, writes:
            stamps_increase_whatever_the_time,
            class_26_a_commit_is_no_earlier_than_it_is_told,
            record_event_entry_and_answer_have_one_stamp,
            a_task_comes_back_with_the_stamps_of_its_commits,
            a_lease_comes_back_with_the_times_of_its_commit,
            a_renewal_keeps_first_origin_and_first_issue,
            the_keyring_comes_back_with_its_version,
            partitions_know_nothing_of_each_other,
            class_07_a_partition_that_never_was_is_an_error,
            dropping_a_task_leaves_nothing_of_it,
        }
        $crate::store_claims! { $fixture, revocations:
            class_07_entries_move_one_way_only,
            class_06_the_fence_of_an_ended_task_is_final,
            a_watermark_takes_the_origin_of_its_commit,
            blocks_count_upward,
            a_reader_gets_what_can_hit_it_and_nothing_else,
            every_entry_and_the_blocks_come_with_the_whole_set,
            as_many_scopes_as_anyone_blocks_are_read,
            class_07_an_entry_is_kept_until_the_last_credential_it_could_hit_is_over,
            class_07_an_entry_that_is_made_again_is_kept_for_later_credentials_too,
            class_07_a_shorter_credential_does_not_shorten_what_is_kept,
            class_07_blocks_and_the_living_incarnation_are_never_dropped,
            class_06_the_watermark_of_a_signing_key_is_never_dropped_and_reaches_every_origin,
        }
        $crate::store_claims! { $fixture, certificates:
            class_16_every_certificate_that_lists_tell_of_is_found_in_pages,
            class_16_a_certificate_is_kept_for_lists_only_if_it_outlives_fifteen_minutes,
            class_16_a_renewed_certificate_is_kept_beside_its_predecessor,
            a_certificate_is_dropped_when_it_expires_and_not_before,
            a_commit_that_is_refused_keeps_no_certificate,
            entries_tell_the_commit_that_made_or_last_raised_them,
            class_16_of_two_lists_made_from_one_exactly_one_is_the_next,
        }
        $crate::store_claims! { $fixture, indexes:
            tasks_are_listed_in_order_and_in_pages,
            leases_are_listed_by_task,
            leases_of_tasks_with_neighbouring_ids_are_listed_apart,
            tasks_are_due_earliest_first,
            a_task_is_due_once_and_where_it_was_last_put,
            class_05_an_ended_task_is_kept_until_the_last_credential_is_over,
            pruning_raises_the_stamp_to_the_time_it_judged_by,
            events_are_read_after_a_stamp_in_pages,
            old_events_are_trimmed_but_never_the_newest,
        }
        $crate::store_claims! { $fixture, feed:
            a_page_goes_on_behind_the_position_and_says_whether_there_is_more,
            a_reader_that_stands_nowhere_loads_the_set_from_the_head_on,
            a_new_partition_begins_with_the_event_of_its_incarnation,
            class_07_events_of_another_history_are_not_taken_for_those_that_follow,
            an_event_tells_the_entries_with_the_origin_of_its_commit,
            the_registry_holds_what_each_broker_wrote_last,
            a_record_is_removed_only_while_its_beat_stands_still,
            whoever_watches_is_told_of_entries_states_and_beats,
            nobody_is_told_of_an_issued_credential,
        }
    };
}

/// Makes a test of every claim about a restart; the second argument is an `async fn(Fixture) -> Fixture` that does it.
#[macro_export]
macro_rules! store_restart_contract {
    ($fixture:path, $restart:path) => {
        $crate::store_restart_claims! { $fixture, $restart, feed:
            a_position_goes_on_across_incarnations,
            the_registry_outlives_the_broker_and_tells_the_incarnation_that_it_lies_in,
        }
    };
}

/// Makes tests of the named claims of one topic, each with a restart in it.
#[doc(hidden)]
#[macro_export]
macro_rules! store_restart_claims {
    ($fixture:path, $restart:path, $topic:ident: $($claim:ident,)*) => {
        mod restart {
            $(
                #[tokio::test]
                async fn $claim() {
                    let fixture = $fixture().await;
                    $crate::testing::store_contract::$topic::$claim(fixture, $restart).await;
                }
            )*
        }
    };
}

/// Makes a test of every claim about records whose time is over; for stores that judge it by the partition's stamp.
#[macro_export]
macro_rules! store_expiry_contract {
    ($fixture:path) => {
        $crate::store_claims! { $fixture, expiry:
            an_answer_is_gone_when_its_time_is_over,
            the_answer_of_a_begin_lives_as_long_as_its_task,
            class_04_a_first_issue_is_kept_as_long_as_anyone_asked,
            class_08_a_claim_is_free_when_its_time_is_over_and_not_before,
            class_23_a_shown_proof_is_remembered_until_its_time_is_over_and_not_longer,
            a_lease_is_kept_for_an_hour_past_its_expiry,
            what_leases_share_is_kept_as_long_as_any_of_them,
            a_row_whose_time_moved_on_is_not_dropped_at_its_old_time,
        }
    };
}

/// Makes tests of the named claims of one topic.
#[doc(hidden)]
#[macro_export]
macro_rules! store_claims {
    ($fixture:path, $topic:ident: $($claim:ident,)*) => {
        mod $topic {
            $(
                #[tokio::test]
                async fn $claim() {
                    $crate::testing::store_contract::$topic::$claim(&$fixture().await).await;
                }
            )*
        }
    };
}
