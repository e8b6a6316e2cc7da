//! How long a call may take: what the client says in `grpc-timeout`, within what the broker allows.

use std::time::Duration;

use axum::http::HeaderMap;

/// The time that a call has; `None` if `grpc-timeout` is there and malformed.
///
/// The header is 1 to 8 digits and a unit (gRPC over HTTP/2, Requests).
pub(super) fn of(headers: &HeaderMap, most: Duration) -> Option<Duration> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Some(most);
    };
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !matches!(digits.len(), 1..=8) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(count.saturating_mul(3_600)),
        "M" => Duration::from_secs(count.saturating_mul(60)),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    };
    Some(timeout.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(30);

    fn timeout(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        of(&headers, MOST)
    }

    #[test]
    fn deadline_of_the_client_holds_within_the_brokers_own() {
        assert_eq!(of(&HeaderMap::new(), MOST), Some(MOST));
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("7S"), Some(Duration::from_secs(7)));
        assert_eq!(timeout("99999999H"), Some(MOST));
        assert_eq!(timeout("0n"), Some(Duration::ZERO));
    }

    #[test]
    fn class_15_malformed_timeouts_are_refused_and_not_taken_for_none() {
        for text in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1 S", "1.5S", "1SS"] {
            assert_eq!(timeout(text), None, "{text:?}");
        }
    }
}
