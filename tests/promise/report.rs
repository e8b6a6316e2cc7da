//! What a run came to.

use std::collections::BTreeMap;
use std::fmt;

use super::checks::By;
use super::faults::Fault;

/// What the checks of one sort came to.
#[derive(Debug, Default)]
pub struct Tally {
    pub checks: u64,
    /// Of these, with the signature verified then and there.
    pub first_times: u64,
    pub accepted: u64,
    /// Refused, of what was FENCED.
    pub refused_after: u64,
}

#[derive(Debug, Default)]
pub struct Report {
    pub worlds: u64,
    pub tallies: BTreeMap<By, Tally>,
    /// Let in by some whole checker, and FENCED then.
    pub tokens_lived: u64,
    pub certificates_lived: u64,
    /// Connections that were open when what they were let in by was FENCED.
    pub hung_up: u64,
    pub issued: u64,
    pub refused_commits: u64,
    pub recorded: u64,
    pub fenced_by_acknowledgement: u64,
    pub fenced_by_lapse: u64,
    pub forgotten: u64,
    pub misuses: u64,
    pub stream_errors: u64,
    pub faults: BTreeMap<Fault, u64>,
    pub violations: u64,
    /// The first violation, by what it was let happen.
    pub first: BTreeMap<Option<By>, String>,
}

impl Report {
    pub fn add(&mut self, other: Self) {
        self.worlds += 1;
        for (by, other) in other.tallies {
            let tally = self.tallies.entry(by).or_default();
            tally.checks += other.checks;
            tally.first_times += other.first_times;
            tally.accepted += other.accepted;
            tally.refused_after += other.refused_after;
        }
        self.tokens_lived += other.tokens_lived;
        self.certificates_lived += other.certificates_lived;
        self.hung_up += other.hung_up;
        self.issued += other.issued;
        self.refused_commits += other.refused_commits;
        self.recorded += other.recorded;
        self.fenced_by_acknowledgement += other.fenced_by_acknowledgement;
        self.fenced_by_lapse += other.fenced_by_lapse;
        self.forgotten += other.forgotten;
        self.misuses += other.misuses;
        self.stream_errors += other.stream_errors;
        for (fault, times) in other.faults {
            *self.faults.entry(fault).or_default() += times;
        }
        self.violations += other.violations;
        for (by, first) in other.first {
            self.first.entry(by).or_insert(first);
        }
    }

    pub fn checks(&self) -> u64 {
        self.tallies.values().map(|tally| tally.checks).sum()
    }

    /// Whether the whole checker accepted something that it must not.
    pub fn is_by(&self, by: By) -> bool {
        self.first.contains_key(&Some(by))
    }

    /// A run in which something never happened shows nothing.
    pub fn vacuous(&self) -> Vec<String> {
        let mut missing = Vec::new();
        // Each sort of check lets in, and after the end refuses, at least once in a hundred.
        for by in [By::View, By::Token, By::Certificate] {
            let Some(tally) = self.tallies.get(&by) else {
                missing.push(format!("checks by {by:?}"));
                continue;
            };
            let least = tally.checks / 100;
            if tally.accepted <= least || tally.refused_after <= least {
                missing.push(format!("acceptances and refusals by {by:?}"));
            }
        }
        let counts = [
            ("tokens that were let in and then FENCED", self.tokens_lived),
            ("certificates that were let in and then FENCED", self.certificates_lived),
            ("connections whose certificate was FENCED", self.hung_up),
            ("refused commits", self.refused_commits),
            ("FENCED by acknowledgement", self.fenced_by_acknowledgement),
            ("FENCED by lapse", self.fenced_by_lapse),
            ("removed records", self.forgotten),
        ];
        for (what, count) in counts {
            if count == 0 {
                missing.push(what.to_owned());
            }
        }
        let never = Fault::ALL.iter().filter(|fault| !self.faults.contains_key(fault));
        missing.extend(never.map(|fault| format!("{fault:?}")));
        missing
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  worlds                    {}", self.worlds)?;
        writeln!(f, "  checks                    {}", self.checks())?;
        writeln!(f, "                  in all   signature   accepted  refused after FENCED")?;
        for (by, tally) in &self.tallies {
            let Tally { checks, first_times, accepted, refused_after } = tally;
            let by = format!("{by:?}");
            writeln!(
                f,
                "    {by:<12}{checks:>9}{first_times:>12}{accepted:>11}{refused_after:>22}"
            )?;
        }
        let all = |of: fn(&Tally) -> u64| self.tallies.values().map(of).sum::<u64>();
        writeln!(f, "  acceptances               {}", all(|tally| tally.accepted))?;
        writeln!(f, "  tokens let in, then FENCED {}", self.tokens_lived)?;
        writeln!(f, "  certificates, the same    {}", self.certificates_lived)?;
        writeln!(f, "  connections hung up       {}", self.hung_up)?;
        writeln!(f, "  credentials issued        {}", self.issued)?;
        writeln!(f, "  issues refused            {}", self.refused_commits)?;
        writeln!(f, "  revocations RECORDED      {}", self.recorded)?;
        writeln!(f, "  FENCED by acknowledgement {}", self.fenced_by_acknowledgement)?;
        writeln!(f, "  FENCED by lapse           {}", self.fenced_by_lapse)?;
        writeln!(f, "  brokers taken for dead    {}", self.forgotten)?;
        writeln!(f, "  streams given up          {}", self.misuses + self.stream_errors)?;
        for (fault, times) in &self.faults {
            writeln!(f, "  {:<25} {times}", format!("{fault:?}"))?;
        }
        write!(f, "  violations                {}", self.violations)
    }
}
