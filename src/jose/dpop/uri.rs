//! The URI of a request as `htu` names it: of scheme `https`, in one spelling, without query and fragment.

use std::fmt;
use std::net::Ipv6Addr;

/// Bytes of a URI.
const MAX_BYTES: usize = 2048;
/// What `https` means without saying.
const DEFAULT_PORT: u16 = 443;

/// An `https` URI, normalised by syntax and scheme (RFC 3986 sections 6.2.2 and 6.2.3): equal ones are one resource.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpsUri(String);

/// A text is not a URI that a request may be named by. Each of these could be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpsUriError {
    /// More than 2048 bytes, or other characters than RFC 3986 section 2 has.
    #[error("is longer than {MAX_BYTES} bytes, or has characters that a URI does not have")]
    Characters,
    /// Another scheme.
    #[error("does not begin with `https://`")]
    Scheme,
    /// RFC 9449 section 4.2: `htu` has neither.
    #[error("has a query or a fragment; leave it out")]
    Query,
    /// `user@` in front of the host.
    #[error("has a user in front of the host")]
    User,
    /// Neither a name nor an address.
    #[error("has no host, or one that is neither a name nor an address")]
    Host,
    /// No number from 1 to 65535 without leading zeros.
    #[error("has a port that is no number from 1 to 65535")]
    Port,
    /// `.` or `..` as a segment, or `%` without two hex digits.
    #[error("has a path with `.` or `..` in it, or with a broken `%` escape")]
    Path,
}

impl HttpsUri {
    /// Reads a URI.
    ///
    /// # Errors
    /// [`HttpsUriError`] names the rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, HttpsUriError> {
        if text.len() > MAX_BYTES || !text.bytes().all(is_uri_byte) {
            return Err(HttpsUriError::Characters);
        }
        let (scheme, rest) = text.split_once("://").ok_or(HttpsUriError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("https") {
            return Err(HttpsUriError::Scheme);
        }
        if rest.contains(['?', '#']) {
            return Err(HttpsUriError::Query);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(HttpsUriError::User);
        }
        let (host, port) = split_port(authority)?;
        let mut uri = format!("https://{}", self::host(host)?);
        if port != DEFAULT_PORT {
            uri.push_str(&format!(":{port}"));
        }
        uri.push_str(&normalised(path)?);
        Ok(Self(uri))
    }

    /// The same place with another path, which begins with `/`.
    ///
    /// # Errors
    /// [`HttpsUriError`] if that is no path.
    pub fn with_path(&self, path: &str) -> Result<Self, HttpsUriError> {
        Self::parse(&format!("{}{path}", self.origin()))
    }

    /// The same host at another port, without a path.
    ///
    /// # Errors
    /// [`HttpsUriError::Port`] for port 0.
    pub fn at_port(&self, port: u16) -> Result<Self, HttpsUriError> {
        let authority = self.origin().strip_prefix("https://").unwrap_or_default();
        let (host, _) = split_port(authority)?;
        Self::parse(&format!("https://{host}:{port}"))
    }

    /// Scheme, host and port, without `/` behind.
    pub fn origin(&self) -> &str {
        let authority = self.0.strip_prefix("https://").unwrap_or_default();
        let end = authority.find('/').unwrap_or(authority.len());
        self.0.get(.."https://".len() + end).unwrap_or_default()
    }

    /// Whether it names a place and nothing there: its path is `/`.
    pub fn is_origin(&self) -> bool {
        self.0.strip_prefix(self.origin()) == Some("/")
    }

    /// Its one spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for HttpsUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HttpsUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Unreserved, reserved, or `%` (RFC 3986 section 2).
fn is_uri_byte(byte: u8) -> bool {
    is_unreserved(byte) || b":/?#[]@!$&'()*+,;=%".contains(&byte)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Host and port; a colon within brackets belongs to an address.
fn split_port(authority: &str) -> Result<(&str, u16), HttpsUriError> {
    let end_of_host = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let behind = authority.get(end_of_host..).unwrap_or_default();
    let Some(colon) = behind.find(':') else { return Ok((authority, DEFAULT_PORT)) };
    let (host, port) = authority.split_at(end_of_host + colon);
    let digits = port.get(1..).unwrap_or_default();
    let number = digits.parse::<u16>().ok().filter(|n| *n != 0 && n.to_string() == digits);
    Ok((host, number.ok_or(HttpsUriError::Port)?))
}

/// A name or an IPv4 address in lower case, or an IPv6 address in its one spelling.
fn host(text: &str) -> Result<String, HttpsUriError> {
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| HttpsUriError::Host)?;
        return Ok(format!("[{address}]"));
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let sound =
        !text.is_empty() && text.bytes().all(is_name) && text.split('.').all(|l| !l.is_empty());
    if sound { Ok(text.to_ascii_lowercase()) } else { Err(HttpsUriError::Host) }
}

/// Escapes in upper case, and none where the character can stand for itself; `/` where there is no path.
fn normalised(path: &str) -> Result<String, HttpsUriError> {
    let mut normal = String::with_capacity(path.len().max(1));
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            normal.push(char::from(byte));
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let escaped =
            digit().zip(digit()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        match escaped.ok_or(HttpsUriError::Path)? {
            plain if is_unreserved(plain) => normal.push(char::from(plain)),
            escaped => normal.push_str(&format!("%{escaped:02X}")),
        }
    }
    if normal.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(HttpsUriError::Path);
    }
    if normal.is_empty() {
        normal.push('/');
    }
    Ok(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_resource_are_equal() {
        let one = HttpsUri::parse("https://lh.example/leasehold.v1.A/B").unwrap();
        for same in [
            "HTTPS://LH.example/leasehold.v1.A/B",
            "https://lh.example:443/leasehold.v1.A/B",
            "https://lh.example/leasehold%2Ev1.%41/B",
        ] {
            assert_eq!(HttpsUri::parse(same).unwrap(), one, "{same}");
        }
        assert_eq!(HttpsUri::parse("https://a").unwrap(), HttpsUri::parse("https://a/").unwrap());
        let colon = HttpsUri::parse("https://[::1]:7700/a%2fb").unwrap();
        assert_eq!(colon.as_str(), "https://[::1]:7700/a%2Fb");
        assert_eq!(HttpsUri::parse("https://[0:0::1]:7700/a%2Fb").unwrap(), colon);
    }

    #[test]
    fn class_12_resources_that_differ_are_not_equal() {
        let one = HttpsUri::parse("https://lh.example/a/B").unwrap();
        for other in [
            "https://lh.example:7700/a/B",
            "https://lh.example/a/b",
            "https://lh.example/a/B/",
            "https://lh.example/a%2FB",
            "https://xlh.example/a/B",
            "https://lh.example.evil/a/B",
        ] {
            assert_ne!(HttpsUri::parse(other).ok(), Some(one.clone()), "{other}");
        }
    }

    #[test]
    fn class_12_what_could_be_read_in_two_ways_is_refused() {
        for (text, fault) in [
            ("http://lh.example/a", HttpsUriError::Scheme),
            ("lh.example/a", HttpsUriError::Scheme),
            ("", HttpsUriError::Scheme),
            ("https:/lh.example/a", HttpsUriError::Scheme),
            ("https://lh.example/a?", HttpsUriError::Query),
            ("https://lh.example/a#b", HttpsUriError::Query),
            ("https://lh.example?a", HttpsUriError::Query),
            ("https://user@lh.example/a", HttpsUriError::User),
            ("https://lh.example:x@evil.example/a", HttpsUriError::User),
            ("https:///a", HttpsUriError::Host),
            ("https://:7700/a", HttpsUriError::Host),
            ("https://lh..example/a", HttpsUriError::Host),
            ("https://lh.example./a", HttpsUriError::Host),
            ("https://lh%2Eexample/a", HttpsUriError::Host),
            ("https://[::1/a", HttpsUriError::Port),
            ("https://[v1.a]/a", HttpsUriError::Host),
            ("https://a[::1]/a", HttpsUriError::Host),
            ("https://lh.example:/a", HttpsUriError::Port),
            ("https://lh.example:0/a", HttpsUriError::Port),
            ("https://lh.example:0443/a", HttpsUriError::Port),
            ("https://lh.example:+443/a", HttpsUriError::Port),
            ("https://lh.example:65536/a", HttpsUriError::Port),
            ("https://lh.example:443:443/a", HttpsUriError::Port),
            ("https://lh.example/a/../b", HttpsUriError::Path),
            ("https://lh.example/%2e%2E/b", HttpsUriError::Path),
            ("https://lh.example/.", HttpsUriError::Path),
            ("https://lh.example/%4", HttpsUriError::Path),
            ("https://lh.example/%zz", HttpsUriError::Path),
            ("https://lh.example/a b", HttpsUriError::Characters),
            ("https://lh.exämple/a", HttpsUriError::Characters),
            ("https://lh.example\\@evil.example/a", HttpsUriError::Characters),
            ("https://lh.example/a\n", HttpsUriError::Characters),
        ] {
            assert_eq!(HttpsUri::parse(text), Err(fault), "{text}");
        }
        let long = format!("https://lh.example/{}", "a".repeat(MAX_BYTES));
        assert_eq!(HttpsUri::parse(&long), Err(HttpsUriError::Characters));
    }

    #[test]
    fn a_place_takes_any_path() {
        let place = HttpsUri::parse("https://lh.example:7700").unwrap();
        assert!(place.is_origin());
        assert_eq!(place.origin(), "https://lh.example:7700");
        assert_eq!(place.at_port(443).unwrap().as_str(), "https://lh.example/");
        assert!(HttpsUri::parse("https://[::1]").unwrap().at_port(7).is_ok());
        let method = place.with_path("/leasehold.v1.A/B").unwrap();
        assert_eq!(method.as_str(), "https://lh.example:7700/leasehold.v1.A/B");
        assert!(!method.is_origin());
    }
}
