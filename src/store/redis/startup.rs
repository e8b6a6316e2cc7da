//! Is this a server that the store can live on? Asked once, before anything rests on it.

use std::collections::HashMap;

use super::RedisStore;
use super::connection::misconfigured;
use super::keys::Keys;
use super::script::{Call, array, text, unexpected};
use crate::domain::id::Partition;
use crate::store::StoreError;

/// The least rights of the Redis user, as `config/redis.acl` gives them, on keys and channels `{lh:*}:*` only. `EVALSHA` and `SCRIPT LOAD` run
/// the scripts of this folder, in which the server holds each command against the same rights; `CONFIG GET` asks whether writes
/// are safe, `ACL DRYRUN` whether the server could load them again.
pub const RIGHTS: [&str; 35] = [
    "evalsha",
    "script|load",
    "info",
    "time",
    "config|get",
    "acl|dryrun",
    "exists",
    "get",
    "getrange",
    "set",
    "del",
    "pexpireat",
    "pexpiretime",
    "hget",
    "hmget",
    "hset",
    "hdel",
    "hexists",
    "hvals",
    "hscan",
    "zadd",
    "zrem",
    "zrange",
    "zremrangebyscore",
    "lrange",
    "ltrim",
    "rpush",
    "xadd",
    "xrange",
    "xrevrange",
    "xlen",
    "xtrim",
    "publish",
    "subscribe",
    "ping",
];

/// What stands in the append-only file of a store, with the least arguments.
const LOADED: [&str; 15] = [
    "multi",
    "exec",
    "select 0",
    "set KEY 0",
    "del KEY",
    "pexpireat KEY 0",
    "hset KEY 0 0",
    "hdel KEY 0",
    "zadd KEY 0 0",
    "zrem KEY 0",
    "zremrangebyscore KEY 0 0",
    "ltrim KEY 0 0",
    "rpush KEY 0",
    "xadd KEY 0 0 0",
    "xtrim KEY MAXLEN 0",
];

impl RedisStore {
    /// # Errors
    /// [`StoreError::Misconfigured`] says what to change.
    pub(super) async fn check_server(&self) -> Result<(), StoreError> {
        self.check_rights().await?;
        self.check_loading().await?;
        let value = self.ordinary.send(&redis::cmd("INFO")).await?;
        let info = text(value)?;
        let info: HashMap<_, _> = info.lines().filter_map(|line| line.split_once(':')).collect();
        let says = |name: &str| info.get(name).copied().unwrap_or_default();
        let version = version(says("redis_version")).ok_or_else(|| unexpected("no version"))?;
        if version < (7, 0, 0) {
            return Err(misconfigured(format!(
                "the server is Redis {}; Leasehold needs 7.0 or later",
                says("redis_version")
            )));
        }
        if says("redis_mode") != "standalone" {
            return Err(misconfigured("the server is part of a cluster; use a single server"));
        }
        if says("role") != "master" {
            return Err(misconfigured("the server is a replica; use its primary"));
        }
        if says("maxmemory_policy") != "noeviction" {
            return Err(misconfigured(format!(
                "`maxmemory-policy` is `{}`, so revocations could be evicted; set it to `noeviction`",
                says("maxmemory_policy")
            )));
        }
        if has_lua_flaw(version) && says("valkey_version").is_empty() {
            tracing::warn!(
                version = says("redis_version"),
                "this version of Redis has CVE-2025-49844 unless its distributor mended it; only users who may send scripts can use it"
            );
        }
        Ok(())
    }

    /// Redis 7.0 loads its append-only file as the user `default`, even one that is off, and drops every transaction that holds
    /// a command which that user may not run. What was answered would be gone after the next start.
    async fn check_loading(&self) -> Result<(), StoreError> {
        let key = Keys(Partition::ZERO).meta();
        for words in LOADED {
            let mut command = redis::cmd("ACL");
            command.arg("DRYRUN").arg("default");
            words.split(' ').for_each(|word| {
                command.arg(if word == "KEY" { key.as_str() } else { word });
            });
            let redis::Value::Okay = self.ordinary.send(&command).await? else {
                return Err(misconfigured(format!(
                    "the Redis user `default` has no right to `{words}`, so the server would lose what Leasehold writes \
                     when it loads its append-only file; turn that user off, but give it `~* &* +@all`, as in \
                     `config/redis.acl`"
                )));
            };
        }
        Ok(())
    }

    async fn check_rights(&self) -> Result<(), StoreError> {
        let key = Keys(Partition::ZERO).meta();
        let mut call = Call::on([key.clone()]);
        // That a script runs at all shows the right to `EVALSHA`; Redis 7.0 falls over when it is asked about that one.
        let rights: Vec<_> = RIGHTS.into_iter().filter(|right| *right != "evalsha").collect();
        call.length(rights.len());
        for right in rights {
            let words = right.split('|').chain([key.as_str(); 4]);
            call.arg(right).list(words.map(str::to_owned).collect());
        }
        let missing = array(self.ordinary.run(&self.scripts.rights, &call).await?)?;
        let missing = missing.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
        if missing.is_empty() {
            return Ok(());
        }
        Err(misconfigured(format!(
            "the Redis user lacks the right to `{}`; give it those of `config/redis.acl`",
            missing.join("`, `")
        )))
    }
}

fn version(text: &str) -> Option<(u16, u16, u16)> {
    let mut numbers = text.split('.').map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

/// CVE-2025-49844, a use after free in the Lua engine; mended in 7.2.11, 7.4.6, 8.0.4 and 8.2.2.
fn has_lua_flaw(version: (u16, u16, u16)) -> bool {
    match version {
        (7, 2, patch) => patch < 11,
        (7, 4, patch) => patch < 6,
        (8, 0, patch) => patch < 4,
        (8, 2, patch) => patch < 2,
        (major, minor, _) => (major, minor) < (8, 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_the_lua_flaw_are_known() {
        for (text, flawed) in [
            ("7.0.15", true),
            ("7.2.10", true),
            ("7.2.11", false),
            ("8.0.4", false),
            ("8.4.0", false),
        ] {
            assert_eq!(has_lua_flaw(version(text).unwrap()), flawed, "{text}");
        }
    }

    #[test]
    fn the_acl_file_gives_exactly_the_rights_that_are_needed() {
        let file = include_str!("../../../config/redis.acl");
        let user = file.lines().find(|line| line.starts_with("user leasehold ")).unwrap();
        let mut granted: Vec<_> =
            user.split(' ').filter_map(|word| word.strip_prefix('+')).collect();
        let mut needed = RIGHTS.to_vec();
        granted.sort_unstable();
        needed.sort_unstable();
        assert_eq!(granted, needed);
        assert!(user.contains(" ~{lh:*}:* resetchannels &{lh:*}:* -@all "), "{user}");
        assert!(file.lines().any(|line| line == "user default off resetpass ~* &* +@all"));
    }
}
