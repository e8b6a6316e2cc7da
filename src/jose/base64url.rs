//! Base64url as JOSE has it: no padding, and one spelling for every byte string (RFC 7515 section 2).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Writes bytes as base64url without padding.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Writes bytes as base64url without padding behind a text.
pub fn push(text: &mut String, bytes: impl AsRef<[u8]>) {
    URL_SAFE_NO_PAD.encode_string(bytes, text);
}

/// Reads canonical base64url; `None` if there is padding, another character, or a trailing bit that is set.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_spelling_is_read() {
        assert_eq!(decode("AQ"), Some(vec![1]));
        for text in ["AQ==", "AR", "A", "AQ\n", "A Q", "+/8", "AQ="] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
