//! What a store holds, by kind of key, and how much memory this process and redis-server have. Linux only.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fjall::{Database, KeyspaceCreateOptions};
use leasehold::domain::time::Span;
use leasehold::testing::redis::{PASSWORD, RedisServer};

use crate::Outcome;

/// Of one key in so many, Redis is asked how large it is.
const SAMPLED: usize = 16;
/// Keys that are asked for together.
const PAGE: usize = 10_000;

/// The keys of a kind, and their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    pub(crate) keys: f64,
    pub(crate) bytes: f64,
}

/// Kinds of keys by their names in FORMATS.md and `src/store/embedded/keys.rs`.
pub(crate) type Kinds = BTreeMap<String, Held>;

/// Of a server: as `MEMORY USAGE` has it, large keys whole, of the others a part.
pub(crate) fn of_redis(server: &RedisServer) -> Outcome<Kinds> {
    let mut connection = connection(server)?;
    let (mut kinds, mut sampled) = (Kinds::new(), BTreeMap::<String, Held>::new());
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        let (next, keys): (u64, Vec<String>) =
            scan.arg(cursor).arg("COUNT").arg(PAGE).query(&mut connection)?;
        let mut asked = redis::pipe();
        let mut asked_of = Vec::new();
        for key in &keys {
            let kind = kind_of(key);
            let held = kinds.entry(kind.to_owned()).or_default();
            held.keys += 1.0;
            if asked_of.len() * SAMPLED <= keys.len() || is_large(kind) {
                asked.cmd("MEMORY").arg("USAGE").arg(key).arg("SAMPLES").arg(0);
                asked_of.push(kind);
            }
        }
        let sizes: Vec<Option<f64>> = asked.query(&mut connection)?;
        for (kind, size) in asked_of.iter().zip(sizes) {
            let held = sampled.entry((*kind).to_owned()).or_default();
            held.keys += 1.0;
            held.bytes += size.unwrap_or_default();
        }
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    for (kind, held) in &mut kinds {
        let sample = sampled.get(kind).copied().unwrap_or_default();
        held.bytes = held.keys * sample.bytes / sample.keys.max(1.0);
    }
    Ok(kinds)
}

/// Lets every key of a server that expires do so earlier by so much.
pub(crate) fn move_expiries(server: &RedisServer, span: Span) -> Outcome<()> {
    let mut connection = connection(server)?;
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        let (next, keys): (u64, Vec<String>) =
            scan.arg(cursor).arg("COUNT").arg(PAGE).query(&mut connection)?;
        let mut asked = redis::pipe();
        for key in &keys {
            asked.cmd("PEXPIRETIME").arg(key);
        }
        let expiries: Vec<i64> = asked.query(&mut connection)?;
        let mut moved = redis::pipe();
        let millis = i64::try_from(span.millis())?;
        for (key, expires) in keys.iter().zip(expiries).filter(|(_, expires)| *expires > 0) {
            moved.cmd("PEXPIREAT").arg(key).arg(expires - millis).ignore();
        }
        moved.query::<()>(&mut connection)?;
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

fn connection(server: &RedisServer) -> Outcome<redis::Connection> {
    let url = format!("redis://test:{PASSWORD}@127.0.0.1:{}", server.port());
    Ok(redis::Client::open(url)?.get_connection()?)
}

/// `l` of `{lh:00}:l:lse_…`.
fn kind_of(key: &str) -> &str {
    let name = key.split_once("}:").map_or(key, |(_, name)| name);
    name.split(':').next().unwrap_or(name)
}

/// There are few of these, and one may hold a million names.
fn is_large(kind: &str) -> bool {
    !["l", "w", "r", "c", "t", "k", "j"].contains(&kind)
}

/// Of a folder, whose broker has stopped: the bytes of keys and values as they are written.
pub(crate) fn of_folder(folder: &Path) -> Outcome<Kinds> {
    let database = Database::builder(folder).open()?;
    let tree = database.keyspace("leasehold", KeyspaceCreateOptions::default)?;
    let mut kinds = Kinds::new();
    for row in tree.iter() {
        let (key, value) = row.into_inner()?;
        let letter = key.get(1).map_or("n".to_owned(), |letter| char::from(*letter).to_string());
        let held = kinds.entry(letter).or_default();
        held.keys += 1.0;
        held.bytes += f64::from(u32::try_from(key.len() + value.len())?);
    }
    Ok(kinds)
}

/// Bytes of the files in a folder and below.
pub(crate) fn disk_bytes(folder: &Path) -> Outcome<f64> {
    let mut bytes = 0.0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // The storage engine may have removed it meanwhile.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            f64::from(u32::try_from(metadata.len())?)
        };
    }
    Ok(bytes)
}

/// All that a server uses.
pub(crate) fn redis_bytes(server: &RedisServer) -> Outcome<f64> {
    let text: String = redis::from_redis_value(server.command(&["INFO", "memory"]))?;
    let used = text.lines().find_map(|line| line.strip_prefix("used_memory:"));
    Ok(used.ok_or("redis-server does not say how much memory it uses")?.trim().parse()?)
}

/// Whether an embedded store of this process is being written anew, by a thread of that name.
pub(crate) fn is_compacting() -> Outcome<bool> {
    for thread in fs::read_dir("/proc/self/task")? {
        // One that has ended meanwhile has no name any more.
        let name = fs::read_to_string(thread?.path().join("comm")).unwrap_or_default();
        // The kernel keeps 15 characters.
        if name.trim() == "store-compactio" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What of this process is in memory.
pub(crate) fn process_bytes() -> Outcome<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1_024.0)
}
