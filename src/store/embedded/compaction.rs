//! Makes what was dropped leave the files, and the memory of what was written.
//!
//! The storage engine merges its files where many rows are written. Where many were dropped and few are written since, both the rows
//! and the marks that hide them would stay. So once they are a large part of all, everything is written anew without them: by a
//! thread of its own, beside reads and commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use fjall::{AbstractTree as _, Keyspace};
use parking_lot::Mutex;

use super::keys;

/// Fewer dropped rows than that stay: some megabytes.
const FEWEST: usize = 50_000;
/// Rows are dropped so often before all are written anew: one in so many of what lies in the files.
// So of what is written anew at most so many rows fall to one that was dropped.
const ONE_IN: usize = 4;
const THREAD: &str = "store-compaction";
/// How often it is looked whether what is in memory was written.
const LOOK: Duration = Duration::from_millis(10);

/// When and how a tree is written anew.
#[derive(Default)]
pub(super) struct Compaction {
    dropped: AtomicUsize,
    running: Mutex<Running>,
    stops: AtomicBool,
}

#[derive(Default)]
struct Running {
    thread: Option<JoinHandle<()>>,
    /// It will look at what was dropped once more.
    looks_again: bool,
}

impl Compaction {
    /// For a tree that was just opened: what an earlier run dropped, and left in the files.
    pub(super) fn of(tree: &Keyspace) -> Arc<Self> {
        let left = usize::try_from(tree.tree.tombstone_count()).unwrap_or(usize::MAX);
        Arc::new(Self { dropped: AtomicUsize::new(left), ..Self::default() })
    }

    /// So many rows were dropped.
    pub(super) fn count(&self, rows: usize) {
        self.dropped.fetch_add(rows, Ordering::Relaxed);
    }

    /// Begins if it is worth it, and none runs.
    pub(super) fn begin(self: &Arc<Self>, tree: &Keyspace) {
        let mut running = self.running.lock();
        if self.stops.load(Ordering::Relaxed) {
            return;
        }
        // One that panicked looks no more, whatever it says.
        let is_over = running.thread.as_ref().is_some_and(JoinHandle::is_finished);
        if running.looks_again && !is_over || !self.is_worth(tree) {
            return;
        }
        let (this, tree) = (Arc::clone(self), tree.clone());
        let thread = std::thread::Builder::new().name(THREAD.to_owned());
        let run = move || this.run(|| this.is_worth(&tree), || this.write_anew(&tree));
        match thread.spawn(run) {
            Ok(thread) => *running = Running { thread: Some(thread), looks_again: true },
            Err(error) => tracing::warn!(%error, "the embedded store was not compacted"),
        }
    }

    fn is_worth(&self, tree: &Keyspace) -> bool {
        is_worth(self.dropped.load(Ordering::Relaxed), tree.approximate_len())
    }

    /// Lets one that runs finish, and none begin.
    pub(super) fn stop(&self) {
        self.stops.store(true, Ordering::Relaxed);
        let thread = self.running.lock().thread.take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the compaction of the embedded store panicked");
        }
    }

    /// Goes on for as long as it is worth it: whoever drops rows meanwhile begins no other one, and may be the last to drop any.
    fn run(
        &self,
        is_worth: impl Fn() -> bool,
        write_anew: impl Fn() -> Result<bool, fjall::Error>,
    ) {
        loop {
            let dropped = self.dropped.load(Ordering::Relaxed);
            let ended = write_anew().unwrap_or_else(|error| {
                tracing::warn!(%error, "the embedded store was not compacted");
                false
            });
            if ended {
                self.dropped.fetch_sub(dropped, Ordering::Relaxed);
                tracing::info!(dropped, "the embedded store was compacted");
            }
            // INVARIANT (nothing is left): under the lock, so that whoever finds that it looks again is seen when it does.
            let mut running = self.running.lock();
            if !ended || self.stops.load(Ordering::Relaxed) || !is_worth() {
                running.looks_again = false;
                return;
            }
        }
    }

    /// Whether it came to an end.
    fn write_anew(&self, tree: &Keyspace) -> Result<bool, fjall::Error> {
        // The marks that were written last are in memory alone.
        tree.rotate_memtable()?;
        while tree.sealed_memtable_count() > 0 {
            if self.stops.load(Ordering::Relaxed) {
                return Ok(false);
            }
            std::thread::sleep(LOOK);
        }
        tree.major_compact()?;
        // The engine removes the files that were read only once something was written after them, and is put away. Those in which
        // somebody reads just now stay until the next time.
        tree.remove(keys::NO_ROW)?;
        tree.rotate_memtable()?;
        Ok(true)
    }
}

fn is_worth(dropped: usize, held: usize) -> bool {
    dropped >= FEWEST.max(held / ONE_IN)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use fjall::{Database, KeyspaceCreateOptions};

    use super::*;
    use crate::store::embedded::EmbeddedStore;
    use crate::store::{LEASE_KEPT, Store as _, Upkeep as _};
    use crate::testing::clock::TestClock;
    use crate::testing::entropy::SeededEntropy;
    use crate::testing::store_contract::constants;
    use crate::testing::store_contract::samples::{P, at, draft, issue};

    const ROWS: u32 = 60_000;

    /// The bytes of the tables in a database's folder, those that nobody reads any more among them.
    fn tables(folder: &Path) -> u64 {
        let entries = |of: &Path| std::fs::read_dir(of).unwrap().map(|entry| entry.unwrap().path());
        let keyspaces = entries(&folder.join("keyspaces"));
        let tables = keyspaces.flat_map(|keyspace| entries(&keyspace.join("tables")));
        tables.map(|table| table.metadata().unwrap().len()).sum()
    }

    fn finished(compaction: &Compaction) -> bool {
        let thread = compaction.running.lock().thread.take();
        thread.map(|thread| thread.join().unwrap()).is_some()
    }

    #[test]
    fn what_was_dropped_leaves_the_files_and_what_was_not_stays() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::builder(&folder).open().unwrap();
        let tree = database.keyspace("t", KeyspaceCreateOptions::default).unwrap();
        for row in 0..ROWS {
            let digest = ring::digest::digest(&ring::digest::SHA256, &row.to_be_bytes());
            tree.insert(row.to_be_bytes(), digest.as_ref()).unwrap();
        }
        tree.rotate_memtable_and_wait().unwrap();
        let full = tables(folder.path());
        let compaction = Arc::<Compaction>::default();
        compaction.count(FEWEST - 1);
        compaction.begin(&tree);
        assert!(!finished(&compaction), "it is not worth it yet");
        for row in (0..ROWS).filter(|row| row % 1_000 != 0) {
            tree.remove(row.to_be_bytes()).unwrap();
        }
        compaction.count(1);
        // A fourth of twice the rows.
        compaction.begin(&tree);
        assert!(finished(&compaction));
        assert_eq!(compaction.dropped.load(Ordering::Relaxed), 0);
        let left = tables(folder.path());
        assert!(left < full / 20, "{left} of {full}");
        assert_eq!(tree.approximate_len(), 61, "and a mark");
        assert_eq!(tree.iter().count(), 60);
        compaction.begin(&tree);
        assert!(!finished(&compaction), "nothing was dropped since");
        compaction.count(FEWEST);
        compaction.stop();
        compaction.begin(&tree);
        assert!(!finished(&compaction), "it was stopped");
    }

    #[test]
    fn what_is_dropped_while_it_runs_is_not_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::builder(&folder).open().unwrap();
        let tree = database.keyspace("t", KeyspaceCreateOptions::default).unwrap();
        let compaction = Arc::<Compaction>::default();
        compaction.count(FEWEST);
        compaction.running.lock().looks_again = true;
        let rounds = AtomicUsize::new(0);
        let write_anew = || {
            // A sweep, and the last one.
            if rounds.fetch_add(1, Ordering::Relaxed) < 2 {
                compaction.count(FEWEST);
                compaction.begin(&tree);
            }
            Ok(true)
        };
        compaction.run(|| compaction.is_worth(&tree), write_anew);
        assert!(!finished(&compaction), "it is one that runs");
        assert_eq!(rounds.load(Ordering::Relaxed), 3);
        assert_eq!(compaction.dropped.load(Ordering::Relaxed), 0);
        compaction.count(FEWEST);
        compaction.begin(&tree);
        assert!(finished(&compaction), "the next sweep begins the next one");
    }

    #[test]
    fn one_that_failed_or_was_stopped_leaves_the_rest_to_the_next() {
        let compaction = Compaction::default();
        compaction.count(FEWEST);
        let rounds = AtomicUsize::new(0);
        for ended in [Ok(false), Err(fjall::Error::Poisoned), Ok(true)] {
            let ended = Mutex::new(Some(ended));
            compaction.stops.store(true, Ordering::Relaxed);
            compaction.run(
                || true,
                || {
                    rounds.fetch_add(1, Ordering::Relaxed);
                    ended.lock().take().unwrap()
                },
            );
        }
        assert_eq!(rounds.load(Ordering::Relaxed), 3, "each once");
        assert_eq!(compaction.dropped.load(Ordering::Relaxed), 0, "the last of them ended");
    }

    #[test]
    fn what_an_earlier_run_dropped_is_known_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        {
            let database = Database::builder(&folder).open().unwrap();
            let tree = database.keyspace("t", KeyspaceCreateOptions::default).unwrap();
            (0..ROWS).for_each(|row| tree.insert(row.to_be_bytes(), [7; 32]).unwrap());
            tree.rotate_memtable_and_wait().unwrap();
            (0..ROWS).for_each(|row| tree.remove(row.to_be_bytes()).unwrap());
            tree.rotate_memtable_and_wait().unwrap();
        }
        let database = Database::builder(&folder).open().unwrap();
        let tree = database.keyspace("t", KeyspaceCreateOptions::default).unwrap();
        let compaction = Compaction::of(&tree);
        compaction.begin(&tree);
        assert!(finished(&compaction));
        assert_eq!(tree.approximate_len(), 1, "a mark");
    }

    #[test]
    fn it_waits_until_enough_was_dropped_of_what_there_is() {
        assert!(is_worth(FEWEST, FEWEST));
        assert!(!is_worth(FEWEST - 1, FEWEST));
        let held = 2 * FEWEST * ONE_IN;
        assert!(is_worth(2 * FEWEST, held), "exactly a fourth");
        assert!(!is_worth(2 * FEWEST - 1, held));
    }

    #[tokio::test]
    async fn what_a_sweep_drops_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        EmbeddedStore::init(folder.path(), constants()).unwrap();
        let clock = Arc::new(TestClock::default());
        let store = EmbeddedStore::open(folder.path(), clock, &SeededEntropy::new(1)).unwrap();
        store.commit(issue(at(0), &draft(1, 1), 60)).await.unwrap();
        store.prune(P, at(59).plus(LEASE_KEPT)).await.unwrap();
        assert_eq!(store.compaction.dropped.load(Ordering::Relaxed), 0);
        store.prune(P, at(60).plus(LEASE_KEPT)).await.unwrap();
        // The lease, its place among its task's, and when it was over.
        assert_eq!(store.compaction.dropped.load(Ordering::Relaxed), 3);
    }
}
