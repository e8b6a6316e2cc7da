//! The address of a SPIFFE Workload Endpoint (SPIFFE Workload Endpoint section 4).

use std::fmt;
use std::net::SocketAddr;

/// The longest path of a Unix socket: `sun_path` with its final zero has 108 bytes.
const MAX_PATH_BYTES: usize = 107;

/// Where a Workload API answers: a Unix socket, or an IP address and port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkloadEndpoint {
    text: String,
    is_local: bool,
}

/// A text is not the address of a Workload API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Neither `unix:` nor `tcp:`.
    #[error(
        "write `unix://` and the absolute path of a socket, or `tcp://` and an IP address and port"
    )]
    Scheme,
    /// The path is not absolute, empty, or an authority stands before it.
    #[error(
        "write three slashes and the absolute path of a socket, like `unix:///run/spire/agent.sock`"
    )]
    Path,
    /// A character that a URI would have to escape, or that begins a query or fragment.
    #[error("the path of the socket has a space, `?`, `#`, `%` or a character beyond ASCII")]
    Character,
    /// More than the system takes.
    #[error("the path of a Unix socket has at most {MAX_PATH_BYTES} bytes")]
    TooLong,
    /// Not an IP address and a port and nothing else.
    #[error(
        "write an IP address and a port, like `tcp://127.0.0.1:8081`; names and paths are not allowed"
    )]
    Address,
}

impl WorkloadEndpoint {
    /// Reads an address; nothing is normalised.
    ///
    /// # Errors
    /// [`EndpointError`] names the rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let is_local = if let Some(path) = text.strip_prefix("unix:") {
            unix(path.strip_prefix("//").ok_or(EndpointError::Path)?)?;
            true
        } else if let Some(address) = text.strip_prefix("tcp://") {
            let address: SocketAddr = address.parse().map_err(|_| EndpointError::Address)?;
            address.ip().is_loopback()
        } else {
            return Err(EndpointError::Scheme);
        };
        Ok(Self { text: text.to_owned(), is_local })
    }

    /// The URI that gRPC connects to: the same, or plain HTTP/2 to the address.
    pub fn to_uri(&self) -> String {
        match self.text.strip_prefix("tcp:") {
            Some(address) => format!("http:{address}"),
            None => self.text.clone(),
        }
    }

    /// Whether it is on this machine: nothing protects the way to another.
    pub fn is_local(&self) -> bool {
        self.is_local
    }
}

fn unix(path: &str) -> Result<(), EndpointError> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(EndpointError::Path);
    }
    if path.bytes().any(|byte| !byte.is_ascii_graphic() || b"?#%".contains(&byte)) {
        return Err(EndpointError::Character);
    }
    if path.len() > MAX_PATH_BYTES { Err(EndpointError::TooLong) } else { Ok(()) }
}

impl fmt::Display for WorkloadEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_absolute_socket_or_an_ip_address_and_port() {
        let uri = |text: &str| WorkloadEndpoint::parse(text).map(|endpoint| endpoint.to_uri());
        assert_eq!(uri("unix:///run/a.sock").unwrap(), "unix:///run/a.sock");
        assert_eq!(uri("tcp://127.0.0.1:80").unwrap(), "http://127.0.0.1:80");
        assert_eq!(uri("tcp://[::1]:80").unwrap(), "http://[::1]:80");
        let is_local = |text| WorkloadEndpoint::parse(text).unwrap().is_local();
        assert!(
            is_local("unix:///a") && is_local("tcp://127.0.0.9:1") && is_local("tcp://[::1]:1")
        );
        assert!(!is_local("tcp://192.0.2.1:80"));
        let long = format!("unix:///{}", "a".repeat(MAX_PATH_BYTES));
        for (text, refusal) in [
            ("", EndpointError::Scheme),
            ("/run/a.sock", EndpointError::Scheme),
            ("UNIX:///run/a.sock", EndpointError::Scheme),
            ("https://127.0.0.1:80", EndpointError::Scheme),
            ("unix:/run/a.sock", EndpointError::Path),
            ("unix://run/a.sock", EndpointError::Path),
            ("unix://", EndpointError::Path),
            ("unix:///", EndpointError::Path),
            ("unix:///run/a.sock?x", EndpointError::Character),
            ("unix:///run/a b", EndpointError::Character),
            (&long, EndpointError::TooLong),
            ("tcp://localhost:80", EndpointError::Address),
            ("tcp://127.0.0.1", EndpointError::Address),
            ("tcp://127.0.0.1:80/", EndpointError::Address),
            ("tcp://u@127.0.0.1:80", EndpointError::Address),
        ] {
            assert_eq!(uri(text), Err(refusal), "{text}");
        }
    }
}
