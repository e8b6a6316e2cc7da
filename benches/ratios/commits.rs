//! The floors of a commit, without any of the checks: what one lease must at least write, through the same engine.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use leasehold::broker::seams::{Clock as _, SystemClock};
use leasehold::domain::time::Span;
use leasehold::testing::redis::{PASSWORD, RedisServer};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Script};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::Outcome;
use crate::load::Caller;

/// About what issuing writes: lease, answer, event, and an entry of an index.
const LEASE_BYTES: usize = 600;
const ANSWER_BYTES: usize = 640;
const EVENT_BYTES: usize = 220;
/// How long what is written to Redis stays there.
const LIFE: Span = Span::from_seconds(300);
/// How many commits share a sync at most, as in the embedded store.
const GROUP: usize = 256;

/// A lease in Redis: an event, the lease, its place in its task's index, and the answer, which ends with the lease.
const COMMIT: &str = r"
redis.call('XADD', KEYS[1], 'MAXLEN', '~', 10000, '*', 'v', ARGV[3])
redis.call('SET', KEYS[2], ARGV[4], 'PXAT', ARGV[2])
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
redis.call('SET', KEYS[4], ARGV[5] .. ARGV[4], 'PXAT', ARGV[2])
return 'done'";

/// Numbers that lie as far apart as random ids do.
#[derive(Clone, Copy)]
struct Ids(u128);

impl Ids {
    fn of_caller(caller: usize) -> Outcome<Self> {
        Ok(Self(u128::try_from(caller)? << 64))
    }

    fn next(&mut self) -> u128 {
        self.0 = self.0.wrapping_add(1);
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }
}

/// One commit: its id, and where to say that it is on the disk.
type Job = (u128, oneshot::Sender<()>);

/// A database with one thread that writes what waits in one batch, and syncs once.
pub(crate) struct Disk {
    jobs: Sender<Job>,
    writer: JoinHandle<()>,
    folder: TempDir,
}

impl Disk {
    pub(crate) fn open() -> Outcome<Self> {
        let folder = tempfile::Builder::new().prefix("leasehold-bench-").tempdir()?;
        let database = Database::builder(folder.path()).open()?;
        let tree = database.keyspace("bench", KeyspaceCreateOptions::default)?;
        let (jobs, waiting) = channel();
        let writer = std::thread::spawn(move || write_groups(&database, &tree, &waiting));
        Ok(Self { jobs, writer, folder })
    }

    pub(crate) fn callers(&self, count: usize) -> Outcome<Vec<DiskCaller>> {
        let caller = |n| Ok(DiskCaller { jobs: self.jobs.clone(), ids: Ids::of_caller(n)? });
        (0..count).map(caller).collect()
    }

    /// Removes it.
    pub(crate) fn remove(self) -> Outcome<()> {
        drop(self.jobs);
        self.writer.join().map_err(|_| "the writer panicked")?;
        Ok(self.folder.close()?)
    }
}

// A group that cannot be written is not answered, which every caller takes as an error.
fn write_groups(database: &Database, tree: &Keyspace, waiting: &Receiver<Job>) {
    while let Ok(first) = waiting.recv() {
        let group: Vec<Job> =
            std::iter::once(first).chain(waiting.try_iter().take(GROUP - 1)).collect();
        let mut batch = database.batch().durability(Some(PersistMode::SyncData));
        for (id, _) in &group {
            let key = |kind: u8| [&[kind], id.to_be_bytes().as_slice()].concat();
            batch.insert(tree, key(b'l'), vec![b'e'; LEASE_BYTES]);
            batch.insert(tree, key(b'r'), vec![b'e'; ANSWER_BYTES]);
            batch.insert(tree, key(b'e'), vec![b'e'; EVENT_BYTES]);
            batch.insert(tree, key(b'i'), Vec::new());
        }
        if batch.commit().is_err() {
            return;
        }
        for (_, done) in group {
            // Whoever asked may have stopped at the end of its time.
            done.send(()).unwrap_or_default();
        }
    }
}

/// Commits to a [`Disk`].
pub(crate) struct DiskCaller {
    jobs: Sender<Job>,
    ids: Ids,
}

impl Caller for DiskCaller {
    async fn run(&mut self) -> Outcome<()> {
        let (done, is_done) = oneshot::channel();
        self.jobs.send((self.ids.next(), done)).map_err(|_| "the disk refused")?;
        Ok(is_done.await?)
    }
}

/// Connections that all callers share: a few, since a server reads only so much of each before it syncs, and a floor is the best it can do.
const CONNECTIONS: usize = 4;

/// A script over a few connections.
pub(crate) struct Server {
    connections: Vec<MultiplexedConnection>,
    script: Arc<Script>,
}

impl Server {
    pub(crate) async fn connect(server: &RedisServer) -> Outcome<Self> {
        let url = format!("redis://test:{PASSWORD}@127.0.0.1:{}", server.port());
        let config =
            AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(2)));
        let client = redis::Client::open(url)?;
        let mut connections = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            connections.push(client.get_multiplexed_async_connection_with_config(&config).await?);
        }
        Ok(Self { connections, script: Arc::new(Script::new(COMMIT)) })
    }

    pub(crate) fn callers(&self, count: usize) -> Outcome<Vec<ServerCaller>> {
        let expires_millis = SystemClock::default().now().plus(LIFE).micros() / 1_000;
        let caller = |(n, connection): (usize, &MultiplexedConnection)| {
            let (connection, script) = (connection.clone(), Arc::clone(&self.script));
            let (ids, index) = (Ids::of_caller(n)?, format!("{{bench}}:tl:{n}"));
            Ok(ServerCaller { connection, script, ids, index, expires_millis })
        };
        self.connections.iter().cycle().take(count).enumerate().map(caller).collect()
    }
}

/// Commits to a [`Server`].
pub(crate) struct ServerCaller {
    connection: MultiplexedConnection,
    script: Arc<Script>,
    ids: Ids,
    index: String,
    expires_millis: u64,
}

impl Caller for ServerCaller {
    async fn run(&mut self) -> Outcome<()> {
        let id = self.ids.next();
        let name = format!("{id:032x}");
        let mut call = self.script.key("{bench}:e");
        call.key(format!("{{bench}}:l:{name}")).key(&self.index).key(format!("{{bench}}:r:{name}"));
        call.arg(&name).arg(self.expires_millis).arg(&[b'e'; EVENT_BYTES]);
        call.arg(&[b'e'; LEASE_BYTES]).arg(&[b'e'; ANSWER_BYTES - LEASE_BYTES]);
        let word: String = call.invoke_async(&mut self.connection).await?;
        match word.as_str() {
            "done" => Ok(()),
            _ => Err("the script answered something else".into()),
        }
    }
}
