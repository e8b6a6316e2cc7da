//! `feed`: how this broker takes part in fencing.

use super::document::Field;
use super::section::Section;
use super::value;
use crate::domain::feed::Drift;

/// No name of a broker is longer: as long as that of a host.
const NAME_MOST_BYTES: usize = 253;

/// The broker's part of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// What operators call this broker; `None`: as its host.
    pub name: Option<String>,
    /// ρ: how far clocks of brokers and verifiers may run apart; the same at all of them, 0.01 % to 10 %.
    pub drift: Drift,
    /// Verifiers' streams that are open at once; 1 to 65,536.
    pub streams: usize,
}

impl Default for Feed {
    fn default() -> Self {
        Self { name: None, drift: Drift::DEFAULT, streams: 1_024 }
    }
}

pub(super) fn read(section: &mut Section<'_>) -> Option<Feed> {
    let default = Feed::default();
    let name = section.optional("name", name);
    let drift = section.or("drift", default.drift, drift);
    let streams = section.or("streams", default.streams, value::integer(1..=65_536));
    Some(Feed { name: name?, drift: drift?, streams: streams? })
}

fn name(field: &Field<'_>) -> Option<String> {
    let text = value::text(field)?;
    if text.len() > NAME_MOST_BYTES || text.chars().any(char::is_control) {
        return field.refuse("is no name; write at most 253 bytes on one line".to_owned());
    }
    Some(text.to_owned())
}

/// Per cent with at most four decimals, so a whole number of millionths.
fn drift(field: &Field<'_>) -> Option<Drift> {
    let text = value::text(field)?;
    match text.strip_suffix('%').and_then(ppm).and_then(Drift::from_ppm) {
        Some(drift) => Some(drift),
        None => {
            field.refuse(format!("is `{text}`; give `0.01%` to `10%`, with at most 4 decimals"))
        }
    }
}

fn ppm(percent: &str) -> Option<u32> {
    let (whole, decimals) = percent.split_once('.').unwrap_or((percent, "0"));
    let is_number =
        |text: &str| matches!(text.len(), 1..=4) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) {
        return None;
    }
    let decimals: u32 = format!("{decimals:0<4}").parse().ok()?;
    whole.parse::<u32>().ok()?.checked_mul(10_000)?.checked_add(decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_cent_are_read_exactly() {
        for (text, expected) in [
            ("1", Some(10_000)),
            ("0.01", Some(100)),
            ("2.5", Some(25_000)),
            ("10", Some(100_000)),
            ("0.00001", None),
            (".5", None),
            ("1.", None),
            ("-1", None),
            ("1e1", None),
        ] {
            assert_eq!(ppm(text), expected, "{text}");
        }
    }
}
