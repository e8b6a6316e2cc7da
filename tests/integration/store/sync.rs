//! A commit is answered once the disk has said that it keeps it. No kill shows that, since the system writes on after the
//! death of a process; a disk that refuses to sync does.
//!
//! The test starts itself again as a process that takes itself the right to sync, in the midst of its work.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use leasehold::broker::seams::{Clock, Entropy, SystemClock, SystemEntropy};
use leasehold::store::embedded::EmbeddedStore;
use leasehold::store::{Feed, Outcome, Store, StoreError, Upkeep};
use leasehold::testing::store_contract::constants;
use leasehold::testing::store_contract::feed::record;
use leasehold::testing::store_contract::samples::{P, at, begin, task};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter_all_threads};

/// Where the other process finds the store; set only for it.
const FOLDER: &str = "LEASEHOLD_SYNC_FOLDER";

#[test]
fn class_07_what_the_disk_does_not_sync_is_not_answered() {
    in_another_process("class_07_what_the_disk_does_not_sync_is_not_answered", commit_without_sync);
}

#[test]
fn class_07_who_registers_waits_for_the_disk_and_who_beats_does_not() {
    in_another_process(
        "class_07_who_registers_waits_for_the_disk_and_who_beats_does_not",
        beat_without_sync,
    );
}

fn in_another_process(test: &str, work: fn(&Path)) {
    if let Ok(folder) = std::env::var(FOLDER) {
        return work(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([&format!("store::sync::{test}"), "--exact"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn open(folder: &Path) -> Arc<EmbeddedStore> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let seams = (clock, &SystemEntropy as &dyn Entropy);
    EmbeddedStore::create_or_open(folder, seams, constants()).unwrap()
}

fn beat_without_sync(folder: &Path) {
    let store = open(folder);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let incarnation = store.beat(&record(10, 1)).await.unwrap();
        forbid_syncs();
        assert_eq!(store.beat(&record(10, 2)).await.unwrap(), incarnation);
        assert_eq!(store.brokers().await.unwrap().1, [record(10, 2)]);
        let unregistered = store.beat(&record(20, 1)).await;
        assert!(matches!(unregistered, Err(StoreError::Unavailable(_))), "{unregistered:?}");
        assert_eq!(store.brokers().await.unwrap().1, [record(10, 2)]);
    });
}

fn commit_without_sync(folder: &Path) {
    let store = open(folder);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let done = store.commit(begin(at(0), &task(1))).await;
        assert!(matches!(done, Ok(Outcome::Done(_))), "{done:?}");
        forbid_syncs();
        // Nor is anything after it: nobody knows what is on the disk.
        for number in [2, 3] {
            let lost = store.commit(begin(at(1), &task(number))).await;
            assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
        }
        let pruned = store.prune(P, at(2)).await;
        assert!(matches!(pruned, Err(StoreError::Unavailable(_))), "{pruned:?}");
    });
}

/// From now on every sync of this process fails as on a broken disk.
fn forbid_syncs() {
    let syncs = [libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_sync_file_range];
    let fails = SeccompAction::Errno(u32::try_from(libc::EIO).unwrap());
    let rules: BTreeMap<_, _> = syncs.map(|call| (call, Vec::new())).into();
    let machine = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, fails, machine).unwrap();
    apply_filter_all_threads(&BpfProgram::try_from(filter).unwrap()).unwrap();
}
