//! `[tiers]`: an operator's named sets of limits, within the bounds of FORMATS.md.

use super::document::Field;
use super::duration::render;
use super::section::Section;
use super::value;
use crate::domain::certificate::LONGEST_UNLISTED_SECONDS;
use crate::domain::principal::Name;
use crate::domain::task::OnSilence;
use crate::domain::tier::{ProofRequirement, Tier};
use crate::domain::time::Span;

const LONGEST_TTL: u64 = 86_400;
const LONGEST_CEILING: u64 = 30 * 86_400;
/// `delta_max` as `leasehold store init` sets it if told nothing, and its own upper bound.
const DELTA_MAX: Span = Span::from_seconds(30);
const LARGEST_DELTA_MAX: Span = Span::from_seconds(300);
const LEAST_FRESHNESS: Span = Span::from_millis(500);

pub(super) fn read(field: &Field<'_>) -> Option<Vec<Tier>> {
    let section = Section::of(field)?;
    let fields = section.entries();
    if fields.is_empty() {
        return field
            .refuse("has no tier; add one, like `standard = { ttl = \"5m\", ceiling = \"1h\" }`");
    }
    let tiers: Vec<_> = fields.iter().map(tier).collect();
    tiers.into_iter().collect()
}

fn tier(field: &Field<'_>) -> Option<Tier> {
    let key = field.path.rsplit('.').next().unwrap_or_default();
    let name = value::name_of(field, key);
    value::table(|section| limits(section, name.clone()))(field)
}

fn limits(section: &mut Section<'_>, name: Option<Name>) -> Option<Tier> {
    let ttl = section.required("ttl", "ttl = \"5m\"", value::seconds(1..=LONGEST_TTL));
    let ceiling =
        section.required("ceiling", "ceiling = \"1h\"", value::seconds(1..=LONGEST_CEILING));
    let min_ttl = section.or("min_ttl", 10, value::seconds(1..=LONGEST_TTL));
    let bounds = LEAST_FRESHNESS..=LARGEST_DELTA_MAX;
    let freshness = section.or("freshness", Span::from_seconds(5), value::duration(bounds));
    let proofs =
        [("required", ProofRequirement::Required), ("optional", ProofRequirement::Optional)];
    let proof = section.or("proof", ProofRequirement::Required, value::choice(&proofs));
    let silences = [("suspend", OnSilence::Suspend), ("fail", OnSilence::Fail)];
    let on_silence = section.or("on_silence", OnSilence::Suspend, value::choice(&silences));
    let tier = Tier {
        name: name?,
        ttl_seconds: ttl?,
        ceiling_seconds: ceiling?,
        min_ttl_seconds: min_ttl?,
        freshness: freshness?,
        proof: proof?,
        on_silence: on_silence?,
    };
    in_order(section, &tier)?;
    look_at(section, &tier);
    Some(tier)
}

/// min_ttl ≤ ttl ≤ ceiling.
fn in_order(section: &Section<'_>, tier: &Tier) -> Option<()> {
    let seconds = |seconds| render(Span::from_seconds(seconds));
    let [least, ttl, ceiling] =
        [tier.min_ttl_seconds, tier.ttl_seconds, tier.ceiling_seconds].map(seconds);
    if tier.ttl_seconds > tier.ceiling_seconds {
        let text = format!("is `{ttl}`, more than the tier's `ceiling` of `{ceiling}`; lower it");
        return section.refuse("ttl", text);
    }
    if tier.min_ttl_seconds > tier.ttl_seconds {
        let text = format!("is less than the tier's `min_ttl` of `{least}`; raise it from `{ttl}`");
        return section.refuse("ttl", text);
    }
    Some(())
}

fn look_at(section: &Section<'_>, tier: &Tier) {
    if tier.freshness > DELTA_MAX {
        let text = format!(
            "is more than `{}`, the `delta_max` of a store that was made without saying another",
            render(DELTA_MAX)
        );
        section.warn("freshness", text);
    }
    if tier.ttl_seconds > LONGEST_UNLISTED_SECONDS {
        let text = "is more than `15m`: who checks a certificate of this tier without fetching the CRL that it names accepts it until it expires";
        section.warn("ttl", text);
    }
    if tier.proof == ProofRequirement::Optional {
        let text = "is `optional`: whoever gets hold of a bearer token of this tier can use it";
        section.warn("proof", text);
    }
}
