//! The rules of DESIGN.md section 5 as switches.

/// One rule. 1 to 14 are the list of the feed's requirements; 15 to 17 are what the model found to be missing,
/// 18 and 19 what the exemption from 13 rests on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// 1: `as_of` is the time at which the read was sent. Without: at which it was counted.
    AsOfIsSendTime,
    /// 2: freshness is granted only from reads that were sent after the registration was confirmed. Without: from any.
    ReadsAfterRegistration,
    /// 3: the registry is read after RECORDED. Without: before the commit.
    RegistryAfterRecorded,
    /// 4: a verifier counts until `lapse(delta_max)` after its last answer. Without: while it is connected.
    CountsUntilLapse,
    /// 5: brokers and verifiers are counted by instance. Without: by name, so a restart inherits and overwrites.
    InstanceIds,
    /// 6: an answer stays behind the events that were queued before it. Without: it may overtake them.
    AnswerBehindEvents,
    /// 7: `as_of` is the earliest of all partitions'. Without: the latest.
    EarliestPartition,
    /// 8: `lapse(Δ)` is `Δ(1 + ρ)²`. Without: `Δ(1 + ρ)`.
    LapseIsSquared,
    /// 9: the last confirmed beat counts into the age. Without: reads alone.
    BeatCounts,
    /// 10: a stopping broker leaves its record. Without: it removes it.
    StoppingLeavesRecord,
    /// 11: a verifier that restarts has no freshness. Without: it keeps the freshness, and loses the view.
    RestartIsStale,
    /// 12: freshness counts from the verifier's own send time. Without: from the receipt of the answer.
    FreshFromSendTime,
    /// 13: a registry younger than `lapse(delta_max)` counts no acknowledgements. Without: it does.
    YoungRegistry,
    /// 14: a new incarnation of partition 0 ends the registration and what was read under it. Without: it stands.
    RegistrationOfIncarnation,
    /// 15: a beat that finds no record of its own is a new registration. Without: the old one is taken to have stood.
    RegistrationOfRecord,
    /// 16: the ending broker reads the registry where reads are confirmed. Without: a deposed primary will do.
    RegistryReadConfirmed,
    /// 17: a record is removed only if its beat is still the one that stood still, at one instant. Without: a beat between
    /// the look and the removal goes unseen.
    RemovalCompares,
    /// 18: of a store's incarnations only the first is exempt from rule 13. Without: each is.
    OnlyFirstIsExempt,
    /// 19: a verifier that hears of another store begins anew. Without: it goes by the freshness that it had from a broker of
    /// the store before.
    OneStore,
}

/// Which rules hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules(u32);

impl Rules {
    pub const ALL: Self = Self(u32::MAX);

    pub fn without(self, rule: Rule) -> Self {
        Self(self.0 & !(1 << rule as u32))
    }

    pub fn hold(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u32) != 0
    }
}
