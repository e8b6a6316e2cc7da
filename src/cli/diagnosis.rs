//! What keeps a client from its broker, found in the chain of causes, in words that say what to change.

use std::error::Error;
use std::io::{self, ErrorKind};

use rustls::{CertificateError, Error as TlsError};
use tonic::Status;

/// What is wrong with a connection, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Diagnosis {
    /// What is wrong.
    pub(super) problem: String,
    /// What to change.
    pub(super) remedy: String,
}

/// How tonic begins the message of a status that it made of a plain HTTP response; the number follows.
const NO_GRPC: &str = "grpc-status header missing, mapped from HTTP status code ";

/// As whom a broker is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Nothing was shown.
    Nobody,
    /// `--cert` and `--key`.
    Certificate,
    /// `--token-file`.
    Token,
}

/// A broker that is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Called<'c> {
    /// Its address.
    pub(super) broker: &'c str,
    /// By whom.
    pub(super) caller: Caller,
}

impl Called<'_> {
    /// The connection was there, and was gone before there was an answer: in TLS 1.3 a client has its handshake done before the
    /// server has looked at its certificate (RFC 8446 section 2), and the alert may be lost with the connection.
    pub(super) fn cut_off(self) -> Diagnosis {
        let remedy = match self.caller {
            Caller::Certificate => {
                "most likely it does not trust the certificate in `--cert`: its trust domain must be in the broker's `[[trust.spiffe]]`, with the \
                 root that it leads to by now; it must not have expired; and `--cert` must hold the whole chain, leaf first. The broker's log says \
                 which; if it says nothing, the broker stopped just then: try again"
            }
            Caller::Nobody | Caller::Token => {
                "it may have stopped just then: try again; the broker's log says why it closes connections"
            }
        };
        let problem = format!("`{}` closed the connection after the handshake", self.broker);
        Diagnosis { problem, remedy: remedy.to_owned() }
    }

    /// What answered speaks HTTP, and no gRPC: `None` if this status is one of gRPC.
    pub(super) fn no_grpc(self, status: &Status) -> Option<Diagnosis> {
        let http = status.message().strip_prefix(NO_GRPC)?;
        let problem = format!("`{}` answers HTTP {http} and no gRPC", self.broker);
        let remedy = "if that is the broker's HTTP port, name the one of `listen.grpc` in `--broker` (or LEASEHOLD_BROKER); if a proxy is between, it has \
                      no broker to ask, or none over HTTP/2: its log says which";
        Some(Diagnosis { problem, remedy: remedy.to_owned() })
    }

    /// What to do where the broker does not know who calls.
    pub(super) fn show_yourself(self) -> &'static str {
        match self.caller {
            Caller::Nobody => {
                "show who you are: `--cert` and `--key` with an X.509-SVID, or `--token-file` with an OIDC token"
            }
            Caller::Certificate => {
                "it was shown the certificate in `--cert` (or LEASEHOLD_CERT): that must not have expired, and the broker must know its trust domain"
            }
            Caller::Token => {
                "it was shown the token in `--token-file` (or LEASEHOLD_TOKEN_FILE): that must not have expired, must be for the broker's audience, \
                 and the broker must know its issuer"
            }
        }
    }
}

/// The first cause that says something; `None` if the failure is none of the connection.
pub(super) fn of(error: &(dyn Error + 'static), broker: &str) -> Option<Diagnosis> {
    first(error, broker, of_io)
}

/// The same of a call, so of a connection that had been made.
pub(super) fn of_call(error: &(dyn Error + 'static), called: Called<'_>) -> Option<Diagnosis> {
    first(error, called.broker, |error, broker| match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => {
            Some(called.cut_off())
        }
        _ => of_io(error, broker),
    })
}

fn first(
    error: &(dyn Error + 'static),
    broker: &str,
    of_io: impl Fn(&io::Error, &str) -> Option<Diagnosis>,
) -> Option<Diagnosis> {
    let mut cause = Some(error);
    let mut reset = None;
    while let Some(current) = cause {
        if let Some(tls) = current.downcast_ref::<TlsError>() {
            return Some(of_tls(tls, broker));
        }
        if let Some(io) = current.downcast_ref::<io::Error>() {
            // What an I/O error wraps is not among its causes; and h2 keeps nothing of it but the text.
            let inner = io.get_ref();
            if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<TlsError>()) {
                return Some(of_tls(tls, broker));
            }
            let text = inner.map(ToString::to_string).unwrap_or_default();
            if let Some(alert) = text.strip_prefix("received fatal alert: ") {
                return Some(said(of_alert(alert), broker));
            }
            if text.starts_with("failed to lookup address") {
                return Some(Diagnosis {
                    problem: format!("nobody knows the host of `{broker}`: {text}"),
                    remedy: "correct `--broker` (or LEASEHOLD_BROKER), or this machine's DNS"
                        .to_owned(),
                });
            }
            reset = reset.or_else(|| of_io(io, broker));
        }
        cause = current.source();
    }
    reset
}

fn of_io(error: &io::Error, broker: &str) -> Option<Diagnosis> {
    let (problem, remedy) = match error.kind() {
        ErrorKind::ConnectionRefused => (
            format!("nothing listens at `{broker}`"),
            "start the broker with `leasehold serve`, or name another with `--broker` (or LEASEHOLD_BROKER)",
        ),
        ErrorKind::TimedOut => (
            format!("`{broker}` does not answer"),
            "is the address right, and does a firewall let you through?",
        ),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => (
            format!("`{broker}` closed the connection"),
            "is it a broker's gRPC port? If it asks for a client certificate, give `--cert` and `--key`",
        ),
        _ => return None,
    };
    Some(Diagnosis { problem, remedy: remedy.to_owned() })
}

fn of_tls(error: &TlsError, broker: &str) -> Diagnosis {
    let problem_and_remedy = match error {
        TlsError::InvalidCertificate(certificate) => of_certificate(certificate),
        TlsError::AlertReceived(alert) => of_alert(&format!("{alert:?}")),
        TlsError::InvalidMessage(_) => {
            ("it does not speak TLS".to_owned(), "is it the broker's gRPC port?")
        }
        other => (format!("TLS failed: {other}"), "check `--ca`, `--cert` and `--key`"),
    };
    said(problem_and_remedy, broker)
}

fn said((problem, remedy): (String, &str), broker: &str) -> Diagnosis {
    Diagnosis { problem: format!("`{broker}`: {problem}"), remedy: remedy.to_owned() }
}

/// The broker's certificate does not do.
fn of_certificate(error: &CertificateError) -> (String, &'static str) {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            "its certificate was not issued by the CA in `--ca`".to_owned(),
            "give `--ca` the PEM of the CA that issued the broker's certificate",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            "its certificate is for other names than this".to_owned(),
            "name the broker in `--broker` as its certificate does",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            "its certificate has expired".to_owned(),
            "whoever runs the broker must replace it; is this machine's clock right?",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("its certificate is not valid yet".to_owned(), "is this machine's clock right?")
        }
        other => (
            format!("its certificate is not accepted: {other}"),
            "whoever runs the broker must replace it",
        ),
    }
}

/// Our certificate does not do, by rustls' name of the alert (RFC 8446 section 6.2).
fn of_alert(alert: &str) -> (String, &'static str) {
    match alert {
        "CertificateExpired" => (
            "it refuses the certificate in `--cert`, or one above it: expired, or not valid yet"
                .to_owned(),
            "fetch a new X.509-SVID; it is short-lived by design. If it is new, compare this machine's clock with the broker's",
        ),
        "UnknownCA" | "DecryptError" => (
            "it refuses the certificate in `--cert`: it does not know who issued it".to_owned(),
            "its trust domain must be in the broker's `[[trust.spiffe]]`, with the root that it leads to by now; and \
             `--cert` must hold the whole chain, leaf first. The broker's log says which",
        ),
        "UnsupportedCertificate" => (
            "it refuses the certificate in `--cert`, which is for another use".to_owned(),
            "it must be a workload's and no CA's: `keyUsage` critical with `digitalSignature`, `extKeyUsage` with `serverAuth` \
             and `clientAuth` or none. The broker's log names the rule",
        ),
        "BadCertificate" | "CertificateUnknown" | "AccessDenied" => (
            "it refuses the certificate in `--cert`, which breaks a rule of X.509-SVIDs".to_owned(),
            "it must have exactly one URI SAN, the SPIFFE ID of a workload, and stand in front of its chain. The broker's log \
             names the rule",
        ),
        "CertificateRequired" => {
            ("it asks for a client certificate".to_owned(), "give `--cert` and `--key`")
        }
        other => (format!("it ended the handshake: {other}"), "check `--ca`, `--cert` and `--key`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("transport")]
    struct Transport(#[source] io::Error);

    fn wrapped(error: TlsError) -> Transport {
        Transport(io::Error::new(ErrorKind::InvalidData, error))
    }

    #[test]
    fn a_wrong_ca_is_found_below_the_layers_that_hide_it() {
        let unknown = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let found = of(&wrapped(unknown), "https://b").unwrap();
        assert_eq!(
            found.problem,
            "`https://b`: its certificate was not issued by the CA in `--ca`"
        );
        let name = TlsError::InvalidCertificate(CertificateError::NotValidForName);
        assert!(of(&wrapped(name), "https://b").unwrap().remedy.contains("`--broker`"));
        let alert = TlsError::AlertReceived(rustls::AlertDescription::UnknownCA);
        assert!(of(&wrapped(alert), "https://b").unwrap().problem.contains("`--cert`"));
    }

    #[test]
    fn each_alert_about_our_certificate_has_its_likely_cause() {
        use rustls::AlertDescription as Alert;
        for (alert, cause) in [
            (Alert::CertificateExpired, "clock"),
            (Alert::UnknownCA, "`[[trust.spiffe]]`"),
            (Alert::UnsupportedCertificate, "`digitalSignature`"),
            (Alert::BadCertificate, "one URI SAN"),
            (Alert::CertificateUnknown, "one URI SAN"),
            (Alert::CertificateRequired, "`--cert` and `--key`"),
        ] {
            let found = of(&wrapped(TlsError::AlertReceived(alert)), "https://b").unwrap();
            assert!(found.remedy.contains(cause), "{alert:?}: {found:?}");
        }
    }

    #[test]
    fn what_to_do_fits_what_was_shown() {
        let by = |caller| Called { broker: "https://b", caller };
        let cut_off = by(Caller::Certificate).cut_off();
        assert!(cut_off.problem.contains("after the handshake"), "{cut_off:?}");
        assert!(cut_off.remedy.contains("does not trust the certificate"), "{cut_off:?}");
        let reset = Transport(ErrorKind::ConnectionReset.into());
        assert_eq!(of_call(&reset, by(Caller::Certificate)), Some(cut_off));
        for caller in [Caller::Nobody, Caller::Token] {
            assert!(!by(caller).cut_off().remedy.contains("--cert"));
        }
        assert!(by(Caller::Nobody).show_yourself().contains("`--cert` and `--key`"));
        assert!(by(Caller::Certificate).show_yourself().contains("must not have expired"));
        let token = by(Caller::Token).show_yourself();
        assert!(token.contains("`--token-file`") && !token.contains("--cert"), "{token}");
    }

    #[test]
    fn nobody_listening_and_what_is_no_fault_of_the_connection_are_told_apart() {
        let refused = Transport(ErrorKind::ConnectionRefused.into());
        assert!(of(&refused, "https://b").unwrap().remedy.contains("leasehold serve"));
        assert_eq!(of(&Transport(io::Error::other("else")), "https://b"), None);
        let unknown = io::Error::other("failed to lookup address information: unknown name");
        let found = of(&Transport(unknown), "https://nowhere:7700").unwrap();
        assert!(found.problem.contains("`https://nowhere:7700`"), "{found:?}");
        assert!(found.remedy.contains("LEASEHOLD_BROKER"), "{found:?}");
    }
}
