//! Tasks as they are read: the line of a task below its ancestors, cached; and the views that callers get.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use moka::sync::Cache as Bounded;
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::broker::access::{Caller, Relation, Rpc};
use crate::broker::error::BrokerError;
use crate::broker::page::{Room, bad_token, task_bytes};
use crate::domain::id::{Partition, TaskId};
use crate::domain::line::{Line, Standing};
use crate::domain::refusal::Refusal;
use crate::domain::task::{State, Task};
use crate::domain::time::Stamp;
use crate::store::{Entries, Index, Lane, Listing, Query, Record, RecordKey, Snapshot, StoreError};

const CACHED_TASKS: u64 = 100_000;
/// How many tasks a list reads at a time: so much is held that may not fit into the page any more.
const READ_AT_ONCE: usize = 100;
/// How many names one call of a filtered list looks at, at most.
const MAX_LOOKED_AT: usize = 4_000;

/// Tasks that were read, and floor and present of each partition as they were last heard. A cached task may be behind; the
/// commit finds out.
pub(super) struct Cache {
    tasks: Bounded<TaskId, Arc<Task>>,
    floors: Mutex<BTreeMap<Partition, Stamp>>,
    presents: Mutex<BTreeMap<Partition, Stamp>>,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self {
            tasks: Bounded::new(CACHED_TASKS),
            floors: Mutex::default(),
            presents: Mutex::default(),
        }
    }

    /// Takes over a task unless a later version is known.
    pub(super) fn put(&self, task: Task) {
        if self.tasks.get(&task.id).is_none_or(|known| known.version < task.version) {
            self.tasks.insert(task.id, Arc::new(task));
        }
    }

    pub(super) fn forget(&self, task: TaskId) {
        self.tasks.invalidate(&task);
    }

    pub(super) fn forget_floor(&self, partition: Partition) {
        self.floors.lock().remove(&partition);
    }

    fn line(&self, task: TaskId) -> Option<Line> {
        let own = self.tasks.get(&task)?;
        let ancestors = own.lineage.iter().map(|hop| self.tasks.get(&hop.task));
        Line::shared(ancestors.collect::<Option<_>>()?, own)
    }

    pub(super) fn floor(&self, partition: Partition) -> Option<Stamp> {
        self.floors.lock().get(&partition).copied()
    }

    /// The partition's present when it was last read; its own present is not before.
    pub(super) fn present(&self, partition: Partition) -> Stamp {
        self.presents.lock().get(&partition).copied().unwrap_or_default()
    }

    fn hear(&self, partition: Partition, snapshot: &Snapshot) {
        for (known, heard) in
            [(&self.floors, snapshot.meta.floor), (&self.presents, snapshot.meta.now)]
        {
            let mut known = known.lock();
            let latest = known.entry(partition).or_insert(heard);
            *latest = heard.max(*latest);
        }
        for record in snapshot.records.iter().flatten() {
            if let Record::Task(task) = record {
                self.put((**task).clone());
            }
        }
    }
}

/// A task with the state that counts.
#[derive(Clone, Debug)]
pub struct TaskView {
    /// The task's record.
    pub task: Task,
    /// Its effective state.
    pub standing: Standing,
}

/// Some tasks.
#[derive(Clone, Debug)]
pub struct TaskPage {
    /// Those of this page.
    pub tasks: Vec<TaskView>,
    /// Where the next page begins; empty on the last one.
    pub next_page_token: String,
}

impl Broker {
    /// Reads an open partition, and takes note of its clock, its floor and its tasks. What a closed one holds may have been
    /// revoked since: a server that lost something is not to be believed before it is recovered.
    pub(super) async fn read(&self, query: Query) -> Result<Snapshot, BrokerError> {
        let partition = query.partition;
        let snapshot = self.read_even_closed(query).await?;
        if !snapshot.meta.open {
            return Err(StoreError::Closed(partition).into());
        }
        self.tasks.hear(partition, &snapshot);
        Ok(snapshot)
    }

    /// Reads a partition, open or closed, for whoever wants to know which, and takes note of its clock.
    pub(super) async fn read_even_closed(&self, query: Query) -> Result<Snapshot, BrokerError> {
        let partition = query.partition;
        if !self.parts.upkeep.constants().partitions.contains(partition) {
            return Err(Refusal::NotFound("task or lease").into());
        }
        let snapshot = self.parts.store.read(query).await?;
        self.now.hear(&*self.parts.clock, snapshot.meta.now);
        Ok(snapshot)
    }

    /// That the store's time is known: the times of a task are set by it.
    pub(super) async fn must_have_heard(&self, partition: Partition) -> Result<(), BrokerError> {
        if !self.now.has_heard() {
            self.read(Query::new(partition, vec![], Entries::None)).await?;
        }
        Ok(())
    }

    /// A task below its ancestors; from the cache if it is there.
    pub(super) async fn line(&self, task: TaskId) -> Result<Line, BrokerError> {
        match self.cached_line(task) {
            Some(line) => Ok(line),
            None => self.fresh_line(task, Lane::Ordinary).await,
        }
    }

    /// A task below its ancestors, if the caller may do `rpc` to it, and in which relation. From the cache if that says so; it
    /// may be behind a handover to the caller.
    ///
    /// A task of others costs one read, cached or not, as one that never was: time does not tell them apart.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] if there is none that the caller may do it to.
    pub(super) async fn line_for(
        &self,
        caller: &Caller,
        rpc: Rpc,
        task: TaskId,
    ) -> Result<(Line, Relation), BrokerError> {
        if let Some(line) = self.cached_line(task)
            && let Ok(relation) = caller.on_task(rpc, line.own())
        {
            return Ok((line, relation));
        }
        let own = self.find_task(task, rpc.lane()).await?;
        caller.on_task(rpc, &own)?;
        let line = self.below_ancestors(own, rpc.lane()).await?;
        let relation = caller.on_task(rpc, line.own())?;
        Ok((line, relation))
    }

    fn cached_line(&self, task: TaskId) -> Option<Line> {
        self.tasks.floor(task.partition()).and_then(|_| self.tasks.line(task))
    }

    /// A task below its ancestors, from the store.
    pub(super) async fn fresh_line(&self, task: TaskId, lane: Lane) -> Result<Line, BrokerError> {
        let own = self.find_task(task, lane).await?;
        self.below_ancestors(own, lane).await
    }

    /// A task's record, from the store.
    pub(super) async fn find_task(&self, task: TaskId, lane: Lane) -> Result<Task, BrokerError> {
        let found = self.find_tasks((task.partition(), lane), vec![task]).await?.pop();
        Ok(found.ok_or(Refusal::NotFound("task"))?)
    }

    /// A task that was just read, below its ancestors: read again together with them, for one instant's sake.
    async fn below_ancestors(&self, own: Task, lane: Lane) -> Result<Line, BrokerError> {
        let not_found = Refusal::NotFound("task");
        if own.lineage.is_empty() {
            return Ok(Line::new(vec![], own).ok_or(not_found)?);
        }
        let names = own.lineage.iter().map(|hop| hop.task).chain([own.id]).collect();
        let mut tasks = self.find_tasks((own.id.partition(), lane), names).await?;
        // It, or an ancestor, may have gone away in between.
        Ok(tasks.pop().and_then(|own| Line::new(tasks, own)).ok_or(not_found)?)
    }

    /// The lines of tasks of one partition, in two reads: the tasks, then their ancestors.
    async fn find_lines(
        &self,
        partition: Partition,
        names: &[String],
    ) -> Result<Vec<Option<Line>>, BrokerError> {
        let ids: Vec<TaskId> = names.iter().filter_map(|name| TaskId::parse(name).ok()).collect();
        let tasks = self.find_tasks((partition, Lane::Ordinary), ids).await?;
        let above: BTreeSet<TaskId> =
            tasks.iter().flat_map(|task| task.lineage.iter().map(|hop| hop.task)).collect();
        let above = match above.is_empty() {
            true => Vec::new(),
            false => {
                let above = above.into_iter().collect();
                self.find_tasks((partition, Lane::Ordinary), above).await?
            }
        };
        let above: BTreeMap<TaskId, Task> = above.into_iter().map(|task| (task.id, task)).collect();
        let lines: BTreeMap<String, Line> = tasks
            .into_iter()
            .filter_map(|task| {
                let ancestors = task.lineage.iter().map(|hop| above.get(&hop.task).cloned());
                let ancestors: Option<Vec<Task>> = ancestors.collect();
                Some((task.id.to_string(), Line::new(ancestors?, task)?))
            })
            .collect();
        Ok(names.iter().map(|name| lines.get(name).cloned()).collect())
    }

    /// The tasks of these names that exist, in this order.
    pub(super) async fn find_tasks(
        &self,
        (partition, lane): (Partition, Lane),
        names: Vec<TaskId>,
    ) -> Result<Vec<Task>, BrokerError> {
        let records = names.into_iter().map(RecordKey::Task).collect();
        let query = Query::new(partition, records, Entries::None).on(lane);
        let snapshot = self.read(query).await?;
        Ok(snapshot.records.into_iter().flatten().filter_map(into_task).collect())
    }

    /// The floor of a partition, as last heard.
    pub(super) fn floor(&self, partition: Partition) -> Stamp {
        self.tasks.floor(partition).unwrap_or_default()
    }

    /// A task with its effective state.
    pub(super) fn view(&self, line: &Line) -> TaskView {
        let floor = self.floor(line.own().id.partition());
        TaskView { task: line.own().clone(), standing: line.standing(floor, self.store_now()) }
    }

    /// The view of a task that was just written, below the ancestors that it was decided with.
    pub(super) fn view_of(&self, task: Task, line: &Line) -> TaskView {
        let line = Line::shared(line.ancestors().to_vec(), Arc::new(task.clone()));
        let standing = Standing { state: task.state, cause: None };
        line.map_or(TaskView { task, standing }, |line| self.view(&line))
    }

    /// One task.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] if there is none that the caller may see.
    pub async fn get_task(&self, caller: &Caller, task: TaskId) -> Result<TaskView, BrokerError> {
        self.seen_by(caller, Rpc::GetTask, task).await
    }

    /// One task, for a caller that watches it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] if there is none that the caller may watch.
    pub async fn watched_task(
        &self,
        caller: &Caller,
        task: TaskId,
    ) -> Result<TaskView, BrokerError> {
        self.seen_by(caller, Rpc::WatchTask, task).await
    }

    async fn seen_by(
        &self,
        caller: &Caller,
        rpc: Rpc,
        task: TaskId,
    ) -> Result<TaskView, BrokerError> {
        caller.admit(rpc)?;
        let own = self.find_task(task, Lane::Ordinary).await?;
        caller.on_task(rpc, &own)?;
        Ok(self.view(&self.below_ancestors(own, Lane::Ordinary).await?))
    }

    /// The tasks that the caller may see, partition by partition. A page may be short, even empty, and have a next one.
    ///
    /// # Errors
    /// [`Refusal::RequestInvalid`] for a page size or token that is not one.
    pub async fn list_tasks(
        &self,
        caller: &Caller,
        page_size: i32,
        page_token: &str,
        state: Option<State>,
    ) -> Result<TaskPage, BrokerError> {
        caller.admit(Rpc::ListTasks)?;
        let mut room = Room::new(page_size)?;
        let limit = room.items().min(READ_AT_ONCE);
        let count = self.parts.upkeep.constants().partitions;
        let (mut partition, mut after) = match page_token {
            "" => (Partition::ZERO, String::new()),
            token => {
                let last = TaskId::parse(token).map_err(|_| bad_token())?;
                (last.partition(), token.to_owned())
            }
        };
        let mut page = TaskPage { tasks: Vec::new(), next_page_token: String::new() };
        let mut looked_at = 0usize;
        loop {
            let listing = Listing { partition, index: Index::Tasks, after: after.clone(), limit };
            let names = self.parts.store.list(listing).await?;
            let full = names.len() >= limit;
            let lines = self.find_lines(partition, &names).await?;
            for (name, line) in names.into_iter().zip(lines) {
                looked_at = looked_at.saturating_add(1);
                after = name;
                if let Some(line) = line
                    && caller.on_task(Rpc::ListTasks, line.own()).is_ok()
                {
                    let view = self.view(&line);
                    if state.is_none_or(|wanted| wanted == view.standing.state) {
                        room.take(task_bytes(&view));
                        page.tasks.push(view);
                    }
                }
                if room.is_full() || looked_at >= MAX_LOOKED_AT {
                    page.next_page_token = after;
                    return Ok(page);
                }
            }
            if full {
                continue;
            }
            let next = partition.0.checked_add(1).map(Partition).filter(|p| count.contains(*p));
            match next {
                Some(next) => (partition, after) = (next, String::new()),
                None => return Ok(page),
            }
        }
    }
}

fn into_task(record: Record) -> Option<Task> {
    match record {
        Record::Task(task) => Some(*task),
        Record::Lease(_) | Record::Keyring(..) | Record::RevocationList(..) | Record::Answer(_) => {
            None
        }
    }
}
