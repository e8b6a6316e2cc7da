//! The embedded store: durable on one node, without a server; one incarnation per start.
//!
//! ```text
//!  commit → Queue (endings first) → Committer: group → checks and writes, one by one → one batch, one sync → answers
//!  read, list, page ───────────────────────────────────────────────────────▶ View: one instant of what is durable
//! ```
//!
//! A write that fails stops the store until a restart: nobody knows what of it is on the disk.

mod checks;
mod committer;
mod compaction;
mod feed;
mod incarnation;
mod keys;
mod prune;
mod queue;
mod reads;
mod rows;
mod state;
mod writes;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::broker::seams::{Clock, Entropy};
use crate::domain::certificate::IssuedCertificate;
use crate::domain::id::Partition;
use crate::domain::time::Stamp;
use crate::store::changes::Changes;
use crate::store::{
    Commit, Constants, Entries, Lane, Listing, Outcome, Query, Recorded, Recovered, Snapshot,
    Store, StoreError, Upkeep,
};

use committer::Committer;
use compaction::Compaction;
use feed::Durable;
use incarnation::{Loss, begin_all};
use queue::{Job, Queue};
use rows::{Rows, View, broken};

/// The file by which the storage engine knows its own directory.
const MARKER: &str = "version";

/// What of the files is kept in memory, in bytes.
const CACHE: u64 = 32 << 20;

/// What was written is in memory until it is so much, in bytes; up to four such buffers wait for the disk.
const WRITE_BUFFER: u64 = 16 << 20;

/// A store in a directory of its own.
pub struct EmbeddedStore {
    tree: Keyspace,
    database: Database,
    clock: Arc<dyn Clock>,
    constants: Constants,
    first: Option<Stamp>,
    queue: Arc<Queue>,
    changes: Arc<Changes>,
    committer: Mutex<Option<JoinHandle<()>>>,
    compaction: Arc<Compaction>,
}

impl EmbeddedStore {
    /// Makes a new store in a directory, which is made too. A store that is there stays as it is.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] if there is one with other constants; [`StoreError::Unavailable`] if the disk refuses.
    pub fn init(path: &Path, constants: Constants) -> Result<(), StoreError> {
        make_directory(path)?;
        let (database, tree) = open_database(path)?;
        let view = View { tree: tree.clone(), snapshot: database.snapshot() };
        if let Some(made) = state::constants(&view)? {
            return made.must_be(constants);
        }
        write(&database, &tree, state::new_store(constants), Durable::Yes)
    }

    /// Opens a store, which begins a new incarnation of every partition.
    ///
    /// # Errors
    /// [`StoreError::NotInitialised`] if there is none, [`StoreError::Misconfigured`] if another process has it open,
    /// [`StoreError::Corrupt`] or [`StoreError::Unavailable`] if it cannot be read.
    pub fn open(
        path: &Path,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
    ) -> Result<Arc<Self>, StoreError> {
        if !exists(path)? {
            return Err(StoreError::NotInitialised);
        }
        let (database, tree) = open_database(path)?;
        let view = View { tree: tree.clone(), snapshot: database.snapshot() };
        let constants = state::constants(&view)?.ok_or(StoreError::NotInitialised)?;
        let (rows, _) = begin_all(&tree, constants, (clock.now(), entropy), Loss::Impossible)?;
        write(&database, &tree, rows, Durable::Yes)?;
        let first = state::first(&View { tree: tree.clone(), snapshot: database.snapshot() })?;
        let (queue, changes) = (Arc::new(Queue::default()), Arc::new(Changes::default()));
        let compaction = Compaction::of(&tree);
        let (own_database, own_tree) = (database.clone(), tree.clone());
        let committer = Committer {
            queue: Arc::clone(&queue),
            changes: Arc::clone(&changes),
            tree: tree.clone(),
            clock: Arc::clone(&clock),
            delta_max: constants.delta_max,
            compaction: Arc::clone(&compaction),
            sync: Box::new(move |rows, durable| write(&own_database, &own_tree, rows, durable)),
        };
        let thread = std::thread::Builder::new().name("store".to_owned());
        let thread = thread.spawn(move || committer.run()).map_err(no_disk)?;
        let committer = Mutex::new(Some(thread));
        Ok(Arc::new(Self {
            tree,
            database,
            clock,
            constants,
            first,
            queue,
            changes,
            committer,
            compaction,
        }))
    }

    /// Fences everything in a store that was put back from a backup: `leasehold store restored`. No broker has it open.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn restored(
        path: &Path,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<Vec<Recovered>, StoreError> {
        if !exists(path)? {
            return Err(StoreError::NotInitialised);
        }
        let (database, tree) = open_database(path)?;
        let view = View { tree: tree.clone(), snapshot: database.snapshot() };
        let constants = state::constants(&view)?.ok_or(StoreError::NotInitialised)?;
        let (rows, recovered) =
            begin_all(&tree, constants, (clock.now(), entropy), Loss::Possible)?;
        write(&database, &tree, rows, Durable::Yes)?;
        Ok(recovered)
    }

    /// Opens a store; makes it first where there is none.
    ///
    /// # Errors
    /// As [`Self::open`]; [`StoreError::Misconfigured`] if it was made with other constants.
    pub fn create_or_open(
        path: &Path,
        (clock, entropy): (Arc<dyn Clock>, &dyn Entropy),
        constants: Constants,
    ) -> Result<Arc<Self>, StoreError> {
        if !exists(path)? {
            Self::init(path, constants)?;
        }
        let store = Self::open(path, clock, entropy)?;
        store.constants.must_be(constants)?;
        Ok(store)
    }

    /// Finishes what waits and takes no more commits. Dropping the store does the same.
    pub fn close(&self) {
        self.queue.close("the store was closed");
        let thread = self.committer.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the embedded store's committer panicked");
        }
        self.compaction.stop();
    }

    fn view(&self) -> View {
        View { tree: self.tree.clone(), snapshot: self.database.snapshot() }
    }

    async fn job<T>(
        &self,
        lane: Lane,
        job: impl FnOnce(queue::Reply<T>) -> Job,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(lane, job(reply))?;
        answer.await.map_err(|_| StoreError::Unavailable("the store has stopped".to_owned()))?
    }

    /// Reads that may be long keep no thread of the runtime.
    async fn scan<T: Send + 'static>(
        &self,
        scan: impl FnOnce(&View) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let view = self.view();
        let scanned = tokio::task::spawn_blocking(move || scan(&view)).await;
        scanned.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.job(commit.lane, |reply| Job::Commit(Box::new(commit), reply)).await
    }

    async fn read(&self, query: Query) -> Result<Snapshot, StoreError> {
        let clock = self.clock.now();
        match query.entries {
            Entries::All | Entries::Blocks | Entries::Raised { .. } => {
                self.scan(move |view| reads::read(view, &query, clock)).await
            }
            Entries::None | Entries::Hitting { .. } => reads::read(&self.view(), &query, clock),
        }
    }

    async fn list(&self, listing: Listing) -> Result<Vec<String>, StoreError> {
        let clock = self.clock.now();
        self.scan(move |view| reads::list(view, &listing, clock)).await
    }
}

#[async_trait]
impl Upkeep for EmbeddedStore {
    /// Nothing is ever closed: opening the store recovered it.
    async fn recover(&self) -> Result<Vec<Recovered>, StoreError> {
        Ok(Vec::new())
    }

    async fn prune(&self, partition: Partition, now: Stamp) -> Result<(), StoreError> {
        self.job(Lane::Ordinary, |reply| Job::Prune(partition, now, reply)).await?;
        self.compaction.begin(&self.tree);
        Ok(())
    }

    async fn events(
        &self,
        partition: Partition,
        after: Stamp,
        limit: usize,
    ) -> Result<Vec<Recorded>, StoreError> {
        self.scan(move |view| reads::events(view, partition, after, limit)).await
    }

    async fn certificates(
        &self,
        partition: Partition,
        after: Stamp,
        limit: usize,
    ) -> Result<Vec<IssuedCertificate>, StoreError> {
        self.scan(move |view| reads::certificates(view, partition, after, limit)).await
    }

    fn constants(&self) -> Constants {
        self.constants
    }
}

fn exists(path: &Path) -> Result<bool, StoreError> {
    path.join(MARKER).try_exists().map_err(|fault| unusable(path, &fault))
}

fn make_directory(path: &Path) -> Result<(), StoreError> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path).map_err(|fault| unusable(path, &fault))
}

fn open_database(path: &Path) -> Result<(Database, Keyspace), StoreError> {
    let opened = Database::builder(path).cache_size(CACHE).open();
    let database = opened.map_err(|error| match io_fault(&error) {
        Some(fault) => unusable(path, fault),
        None => broken(error),
    })?;
    let options = || KeyspaceCreateOptions::default().max_memtable_size(WRITE_BUFFER);
    let tree = database.keyspace("leasehold", options).map_err(broken)?;
    Ok((database, tree))
}

/// All rows or none; visible to readers only once they are as durable as they must be.
fn write(
    database: &Database,
    tree: &Keyspace,
    rows: Rows,
    durable: Durable,
) -> Result<(), StoreError> {
    let mode = match durable {
        Durable::Yes => PersistMode::SyncData,
        Durable::Process => PersistMode::Buffer,
    };
    let mut batch = database.batch().durability(Some(mode));
    for (key, value) in rows.into_iter() {
        match value {
            Some(value) => batch.insert(tree, key, value),
            None => batch.remove(tree, key),
        }
    }
    batch.commit().map_err(broken)
}

fn unusable(path: &Path, fault: &std::io::Error) -> StoreError {
    StoreError::Misconfigured(format!(
        "its folder `{}` cannot be used: {fault}; let the user that runs the broker read and write it, or name another in `store.path`",
        path.display()
    ))
}

/// What the system said, if it was that.
fn io_fault<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a std::io::Error> {
    error.downcast_ref().or_else(|| io_fault(error.source()?))
}

fn no_disk(error: std::io::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
