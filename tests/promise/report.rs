//! What a run came to.

use std::collections::BTreeMap;
use std::fmt;

use super::faults::Fault;

#[derive(Debug, Default)]
pub struct Report {
    pub worlds: u64,
    pub checks: u64,
    pub accepted: u64,
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
    pub first: Option<String>,
}

impl Report {
    pub fn add(&mut self, other: Self) {
        self.worlds += 1;
        self.checks += other.checks;
        self.accepted += other.accepted;
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
        self.first = self.first.take().or(other.first);
    }

    /// A run in which something never happened shows nothing.
    pub fn vacuous(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let counts = [
            ("acceptances", self.accepted),
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
        writeln!(f, "  checks                    {}", self.checks)?;
        writeln!(f, "  acceptances               {}", self.accepted)?;
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
