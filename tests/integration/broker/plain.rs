//! The broker as DESIGN.md sections 2 to 4 tell it, as plainly as it can be said: one list of tasks, one of credentials, no
//! store, no cache, no entries. Written from that text, not from the code; silence and deadlines act the moment they come.

use std::collections::{BTreeMap, BTreeSet};

/// A refusal's reason.
pub type Reason = &'static str;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    Active,
    Suspended,
    Ended,
}

/// A tier: TTL, ceiling, and whether silence fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainTier {
    pub name: &'static str,
    pub ttl: u64,
    pub ceiling: u64,
    pub fails: bool,
}

pub const TIERS: [PlainTier; 2] = [
    PlainTier { name: "standard", ttl: 300, ceiling: 3_600, fails: false },
    PlainTier { name: "critical", ttl: 60, ceiling: 600, fails: true },
];
const MINIMUM: u64 = 10;
/// The orchestrator itself.
pub const DRIVER: &str = "principal:spiffe://prod.example/ci/one";
/// Three heartbeats, in milliseconds.
pub const SILENCE: u64 = 31_500;

#[derive(Clone, Debug)]
pub struct PlainTask {
    /// The parent, and its branch when this was delegated.
    pub parent: Option<(usize, u64)>,
    pub agent: usize,
    pub tier: PlainTier,
    /// Whether the grant is the narrow one.
    pub narrow: bool,
    /// In milliseconds.
    pub deadline: u64,
    /// When it falls silent, in milliseconds, if somebody listens.
    pub silent_at: Option<u64>,
    pub listens: bool,
    pub stand: Stand,
    /// How it ended: the verb, or `time`.
    pub ended_by: &'static str,
    pub by_operator: bool,
    pub epoch: u64,
    pub branch: u64,
    pub floor: u64,
}

#[derive(Clone, Debug)]
pub struct PlainCredential {
    pub task: usize,
    pub epoch: u64,
    /// Each ancestor and its branch.
    pub hops: Vec<(usize, u64)>,
    pub lease: usize,
    /// In seconds.
    pub expires: u64,
    pub reach: BTreeSet<String>,
    /// When it was made.
    pub order: u64,
}

#[derive(Clone, Debug)]
pub struct PlainLease {
    pub holder: usize,
    pub task: usize,
    pub over: bool,
    pub latest: usize,
    pub first: u64,
}

/// Everything.
#[derive(Default)]
pub struct Plain {
    /// In milliseconds.
    pub now: u64,
    pub tasks: Vec<PlainTask>,
    pub credentials: Vec<PlainCredential>,
    pub leases: Vec<PlainLease>,
    first_issues: BTreeMap<(usize, usize), u64>,
    blocked: BTreeSet<String>,
    marks: BTreeMap<String, u64>,
    order: u64,
}

/// What an advance changes.
#[derive(Clone, Copy, Debug)]
pub struct PlainAdvance {
    pub epoch: u64,
    pub keep: bool,
    pub narrow: Option<bool>,
    pub agent: Option<usize>,
}

impl Plain {
    pub fn standing(&self, task: usize) -> Stand {
        let own = &self.tasks[task];
        if own.stand == Stand::Ended {
            return Stand::Ended;
        }
        if self.is_dropped(task) {
            return Stand::Ended;
        }
        let suspended = |t: &(usize, u64)| self.tasks[t.0].stand == Stand::Suspended;
        if self.ancestors(task).iter().any(suspended) { Stand::Suspended } else { own.stand }
    }

    /// Whether an ancestor has ended, or gone on without this line.
    fn is_dropped(&self, task: usize) -> bool {
        let above = self.ancestors(task);
        above.iter().any(|(t, b)| self.tasks[*t].stand == Stand::Ended || self.tasks[*t].floor > *b)
    }

    /// Ancestors from the parent up, with the branch at which this line was delegated.
    fn ancestors(&self, task: usize) -> Vec<(usize, u64)> {
        let mut above = Vec::new();
        let mut next = self.tasks[task].parent;
        while let Some(hop) = next {
            above.push(hop);
            next = self.tasks[hop.0].parent;
        }
        above
    }

    fn must_be_active(&self, task: usize) -> Result<(), Reason> {
        match self.standing(task) {
            Stand::Active => Ok(()),
            Stand::Suspended => Err("TASK_SUSPENDED"),
            Stand::Ended => Err("TASK_ENDED"),
        }
    }

    fn must_be_epoch(&self, task: usize, epoch: u64) -> Result<(), Reason> {
        if self.tasks[task].epoch == epoch { Ok(()) } else { Err("EPOCH_STALE") }
    }

    /// Scopes that reach a credential of the task, or the task itself.
    fn reach(&self, task: usize) -> BTreeSet<String> {
        let line = self.ancestors(task).into_iter().map(|hop| hop.0).chain([task]);
        let agents = line.map(|t| agent_scope(self.tasks[t].agent));
        let tier = format!("tier:{}", self.tasks[task].tier.name);
        agents.chain([tier, "all".to_owned(), "orchestrator:ci".to_owned()]).collect()
    }

    fn must_be_unblocked(&self, mut scopes: impl Iterator<Item = String>) -> Result<(), Reason> {
        if scopes.any(|scope| self.blocked.contains(&scope)) { Err("QUARANTINED") } else { Ok(()) }
    }

    /// The orchestrator who does everything here, and whoever takes the task over.
    fn must_be_in_standing(&self, takes_over: Option<usize>) -> Result<(), Reason> {
        let driver = [DRIVER, "orchestrator:ci"].map(str::to_owned).into_iter();
        self.must_be_unblocked(driver.chain(takes_over.map(agent_scope)))
    }

    pub fn begin(&mut self, new: PlainTask) -> Result<(), Reason> {
        self.tasks.push(new);
        let reach = self.reach(self.tasks.len() - 1);
        let begun = self.must_be_in_standing(None).and(self.must_be_unblocked(reach.into_iter()));
        if begun.is_err() {
            self.tasks.pop();
        }
        begun
    }

    pub fn delegate(&mut self, parent: usize, epoch: u64, child: PlainTask) -> Result<(), Reason> {
        self.must_be_active(parent)?;
        self.must_be_epoch(parent, epoch)?;
        let above = &self.tasks[parent];
        if above.narrow && !child.narrow {
            return Err("GRANT_WIDENS");
        }
        if self.ancestors(parent).len() >= 8 {
            return Err("REQUEST_INVALID");
        }
        let deadline = child.deadline.min(above.deadline);
        self.begin(PlainTask { parent: Some((parent, above.branch)), deadline, ..child })
    }

    pub fn advance(&mut self, task: usize, change: PlainAdvance) -> Result<(), Reason> {
        self.must_be_active(task)?;
        self.must_be_epoch(task, change.epoch)?;
        if change.keep && (change.narrow.is_some() || change.agent.is_some()) {
            return Err("REQUEST_INVALID");
        }
        let narrow_above = self.tasks[task].parent.is_some_and(|(p, _)| self.tasks[p].narrow);
        if change.narrow == Some(false) && narrow_above {
            return Err("GRANT_WIDENS");
        }
        self.must_be_in_standing(change.agent)?;
        let own = &mut self.tasks[task];
        own.narrow = change.narrow.unwrap_or(own.narrow);
        own.agent = change.agent.unwrap_or(own.agent);
        own.epoch += 1;
        if !change.keep {
            own.branch += 1;
            own.floor = own.branch;
        }
        self.sign_of_life(task);
        Ok(())
    }

    fn sign_of_life(&mut self, task: usize) {
        let own = &mut self.tasks[task];
        own.silent_at = (own.listens && own.stand == Stand::Active).then_some(self.now + SILENCE);
    }

    pub fn suspend(&mut self, task: usize, by_operator: bool) -> Result<(), Reason> {
        if self.standing(task) == Stand::Ended {
            return Err("TASK_ENDED");
        }
        let own = &mut self.tasks[task];
        if own.stand == Stand::Active {
            own.suspend(by_operator);
        } else {
            own.by_operator |= by_operator;
        }
        Ok(())
    }

    pub fn resume(&mut self, task: usize, epoch: u64, by_operator: bool) -> Result<(), Reason> {
        if self.standing(task) == Stand::Ended {
            return Err("TASK_ENDED");
        }
        self.must_be_epoch(task, epoch)?;
        let in_standing = if by_operator { Ok(()) } else { self.must_be_in_standing(None) };
        if self.tasks[task].stand == Stand::Active {
            return self.must_be_active(task).and(in_standing);
        }
        if self.tasks[task].by_operator && !by_operator {
            return Err("TASK_SUSPENDED");
        }
        in_standing?;
        let own = &mut self.tasks[task];
        (own.stand, own.by_operator) = (Stand::Active, false);
        self.sign_of_life(task);
        Ok(())
    }

    /// What an ancestor's end has ended is cancelled, whoever says so.
    pub fn end(&mut self, task: usize, verb: &'static str) -> Result<(), Reason> {
        if self.tasks[task].ended_by == verb {
            return Ok(());
        }
        if verb == "cancel" && self.tasks[task].stand != Stand::Ended && self.is_dropped(task) {
            self.tasks[task].end(verb);
            return Ok(());
        }
        if self.standing(task) == Stand::Ended {
            return Err("TASK_ENDED");
        }
        self.tasks[task].end(verb);
        Ok(())
    }

    /// Heartbeats go on below a suspended task: silence is about who drives, and only the work was suspended.
    pub fn heartbeat(&mut self, task: usize) -> Result<(), Reason> {
        if self.standing(task) != Stand::Suspended || self.tasks[task].stand == Stand::Suspended {
            self.must_be_active(task)?;
        }
        if !self.tasks[task].listens {
            return Err("REQUEST_INVALID");
        }
        self.must_be_in_standing(None)?;
        self.sign_of_life(task);
        Ok(())
    }

    pub fn issue(&mut self, task: usize, agent: usize) -> Result<(), Reason> {
        if self.tasks[task].agent != agent {
            return Err("NOT_FOUND");
        }
        self.must_be_active(task)?;
        if !self.reach(task).is_disjoint(&self.blocked) {
            return Err("QUARANTINED");
        }
        let lease = self.leases.len();
        self.make(task, agent, lease)?;
        let (latest, first) = (self.credentials.len() - 1, self.order);
        self.leases.push(PlainLease { holder: agent, task, over: false, latest, first });
        Ok(())
    }

    pub fn renew(&mut self, lease: usize) -> Result<(), Reason> {
        let held = self.leases[lease].clone();
        self.must_be_active(held.task)?;
        if self.is_expired(held.latest) || !self.is_current(held.latest) {
            return Err("LEASE_REVOKED");
        }
        let reach = self.reach(held.task);
        let marked = |scope: &String| self.marks.get(scope).is_some_and(|m| held.first <= *m);
        if !reach.is_disjoint(&self.blocked) || reach.iter().any(marked) {
            return Err("QUARANTINED");
        }
        if held.over {
            return Err("LEASE_REVOKED");
        }
        self.make(held.task, held.holder, lease)?;
        self.leases[lease].latest = self.credentials.len() - 1;
        Ok(())
    }

    /// TTL is the least of tier, deadline and ceiling, and nothing below the minimum.
    fn make(&mut self, task: usize, agent: usize, lease: usize) -> Result<(), Reason> {
        let (own, now) = (&self.tasks[task], self.now / 1_000);
        let first = self.first_issues.get(&(task, agent)).copied().unwrap_or(now);
        let (usual, ceiling) =
            ((now + own.tier.ttl).min(own.deadline / 1_000), first + own.tier.ceiling);
        if usual.min(ceiling) < now + MINIMUM {
            return Err(if ceiling < usual { "CEILING_REACHED" } else { "TTL_BELOW_MINIMUM" });
        }
        self.first_issues.insert((task, agent), first);
        self.order += 1;
        let hops = self.ancestors(task).into_iter().map(|(t, _)| (t, self.tasks[t].branch));
        self.credentials.push(PlainCredential {
            task,
            epoch: own.epoch,
            hops: hops.collect(),
            lease,
            expires: usual.min(ceiling),
            reach: self.reach(task),
            order: self.order,
        });
        Ok(())
    }

    fn is_expired(&self, credential: usize) -> bool {
        self.credentials[credential].expires * 1_000 <= self.now
    }

    /// Of the present epoch of its task, and of the present branch of every ancestor.
    fn is_current(&self, credential: usize) -> bool {
        let held = &self.credentials[credential];
        held.epoch == self.tasks[held.task].epoch
            && held.hops.iter().all(|(task, branch)| self.tasks[*task].branch == *branch)
    }

    pub fn is_alive(&self, credential: usize) -> bool {
        let held = &self.credentials[credential];
        let marked = |scope: &String| self.marks.get(scope).is_some_and(|m| held.order <= *m);
        !self.is_expired(credential)
            && self.is_current(credential)
            && self.standing(held.task) == Stand::Active
            && !self.leases[held.lease].over
            && !held.reach.iter().any(marked)
    }

    pub fn quarantine(&mut self, scope: &str) {
        self.blocked.insert(scope.to_owned());
        self.marks.insert(scope.to_owned(), self.order);
    }

    pub fn lift(&mut self, scope: &str) {
        self.blocked.remove(scope);
    }

    /// Time passes: deadlines and silence act.
    pub fn forward(&mut self, seconds: u64) {
        self.now += seconds * 1_000;
        for task in &mut self.tasks {
            if task.stand == Stand::Ended {
                continue;
            }
            if task.deadline <= self.now {
                task.end("time");
            } else if task.silent_at.is_some_and(|at| at <= self.now) {
                if task.tier.fails { task.end("time") } else { task.suspend(false) }
            }
        }
    }
}

impl PlainTask {
    fn end(&mut self, verb: &'static str) {
        (self.stand, self.ended_by, self.silent_at) = (Stand::Ended, verb, None);
    }

    fn suspend(&mut self, by_operator: bool) {
        (self.stand, self.by_operator, self.silent_at) = (Stand::Suspended, by_operator, None);
        self.epoch += 1;
        self.branch += 1;
    }
}

pub fn agent_scope(agent: usize) -> String {
    format!("principal:{}", super::scene::agent_of(agent))
}
