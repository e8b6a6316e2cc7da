//! Lengths of time as people write them: a whole number and one unit, `500ms`, `90s`, `5m`, `24h`, `7d`.

use crate::domain::time::Span;

/// Units and their microseconds, largest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
];

/// A text is not a length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a whole number and one of `ms`, `s`, `m`, `h`, `d`, like `500ms` or `5m`")]
pub struct DurationError;

/// Reads a length of time; no sign, no fraction, no space.
///
/// # Errors
/// [`DurationError`] if the text is anything else, or longer than 2^64 µs.
pub fn parse(text: &str) -> Result<Span, DurationError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or(DurationError)?;
    let (_, micros) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(DurationError)?;
    let number: u64 = number.parse().map_err(|_| DurationError)?;
    number.checked_mul(*micros).map(Span::from_micros).ok_or(DurationError)
}

/// The length in the largest unit that holds it without a rest: what [`parse`] reads back, down to milliseconds.
pub fn render(span: Span) -> String {
    let micros = span.micros();
    let whole = |(_, unit): &&(&str, u64)| micros != 0 && micros.is_multiple_of(*unit);
    match UNITS.iter().find(whole) {
        Some((name, unit)) => format!("{}{name}", micros / unit),
        None if micros == 0 => "0s".to_owned(),
        None => format!("{}ms", span.millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_and_written_the_same() {
        for text in ["1ms", "1500ms", "90s", "5m", "24h", "7d", "0s"] {
            let rendered = render(parse(text).unwrap());
            assert_eq!(rendered, text.replace("24h", "1d"), "{text}");
        }
        assert_eq!(parse("5m"), Ok(Span::from_seconds(300)));
        assert_eq!(parse("60s"), parse("1m"));
    }

    #[test]
    fn anything_but_a_whole_number_and_a_unit_is_refused() {
        for text in [
            "",
            "5",
            "m",
            "-5m",
            "+5m",
            "5 m",
            "0.5s",
            "5M",
            "5us",
            "1h30m",
            "5m ",
            "999999999999d",
            "５s",
        ] {
            assert_eq!(parse(text), Err(DurationError), "{text:?}");
        }
    }
}
