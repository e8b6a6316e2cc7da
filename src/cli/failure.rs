//! Why a command failed, and what to do about it: for a person, or as JSON for a program.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt;

use super::diagnosis::{self, Called, Diagnosis};
use super::show::Output;
use super::{arguments, config};
use crate::app::AppError;
use crate::config::duration;
use crate::config::problem::ConfigErrors;
use crate::demo::DemoError;
use crate::domain::time::Span;
use crate::playground::PlaygroundError;
use crate::proto::code_name;
use crate::telemetry::LogError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A file that was named cannot be read.
    #[error("{}", unreadable(path, source))]
    Read {
        /// How it was named.
        option: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that was named cannot be written.
    #[error("`{}` cannot be written: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The answer could not be printed.
    #[error("the answer cannot be printed: {0}")]
    Print(std::io::Error),
    /// A key could not be made.
    #[error("no key could be made: {0}")]
    Key(String),
    /// The broker's answer lacks what it always has.
    #[error("the broker's answer has no `{0}`; broker and command line are of different versions")]
    Answer(&'static str),
    /// The broker could not be reached.
    #[error("{}", .0.problem)]
    Connection(Diagnosis),
    /// The broker said no.
    #[error("{}", .0.message)]
    Refused(Box<Refused>),
    /// The configuration has mistakes.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A broker could not be started.
    #[error(transparent)]
    Broker(#[from] AppError),
    /// A playground could not be made or read.
    #[error(transparent)]
    Playground(#[from] PlaygroundError),
    /// The demo was not told to its end.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// A temporary folder could not be made.
    #[error("no temporary folder can be made: {0}; name one with `--dir`")]
    Folder(std::io::Error),
    /// Signals cannot be waited for.
    #[error("signals cannot be waited for: {0}")]
    Signals(std::io::Error),
    /// A command that was started cannot be waited for.
    #[error("the command cannot be waited for: {0}")]
    Command(std::io::Error),
    /// Logs could not be set up.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A path that cannot be read; one that is a token where a file was meant is not shown.
fn unreadable(path: &Path, source: &std::io::Error) -> String {
    if path.to_str().is_some_and(arguments::is_token) {
        return arguments::TOKEN_ITSELF.to_owned();
    }
    format!("`{}` cannot be read: {source}", path.display())
}

/// A refusal of the broker.
#[derive(Debug)]
pub(super) struct Refused {
    code: Code,
    reason: String,
    message: String,
    fields: Vec<(String, String)>,
    retry_after: Option<Span>,
    /// The id to try again with, of a call that changes something.
    request_id: Option<String>,
    /// What to do if it is that the broker does not know who called.
    show_yourself: &'static str,
}

impl Failure {
    /// What a call failed with: the broker's refusal, or that there was no broker to ask.
    pub(super) fn of_call(status: &Status, called: Called<'_>, request_id: Option<&str>) -> Self {
        let details = status.get_error_details();
        // The client's own limit, which tonic tells by the code of a call that was given up.
        let is_late = status.message() == TimeoutExpired(()).to_string();
        if details.error_info().is_none() {
            let no_grpc = called.no_grpc(status);
            let diagnosis = no_grpc.or_else(|| diagnosis::of_call(status, called));
            // Nobody here cancels a call, and a broker that does says why.
            let is_cut_off = status.code() == Code::Cancelled && !is_late;
            if let Some(diagnosis) = diagnosis.or_else(|| is_cut_off.then(|| called.cut_off())) {
                return Self::Connection(diagnosis);
            }
        }
        let fields = details.bad_request().map_or(&[][..], |bad| &bad.field_violations);
        let reason = details.error_info().map(|info| info.reason.clone());
        Self::Refused(Box::new(Refused {
            code: if is_late { Code::DeadlineExceeded } else { status.code() },
            reason: reason.unwrap_or_default(),
            message: status.message().to_owned(),
            fields: fields.iter().map(|f| (f.field.clone(), f.description.clone())).collect(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay).map(Span::from),
            request_id: request_id.map(str::to_owned),
            show_yourself: called.show_yourself(),
        }))
    }

    /// The broker's stable reason, if it was the broker that said no.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Refused(refused) => &refused.reason,
            _ => "",
        }
    }

    /// The code of the broker's refusal.
    pub(super) fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refused) => Some(refused.code),
            _ => None,
        }
    }

    /// How long the broker asked to wait before the next attempt.
    pub(super) fn retry_after(&self) -> Duration {
        match self {
            Self::Refused(refused) => refused.retry_after.map(arguments::standard),
            _ => None,
        }
        .unwrap_or_default()
    }

    /// Says it on stderr.
    pub(super) fn print(&self, output: Output) {
        match output {
            Output::Human => eprintln!("{}", self.text()),
            Output::Json => eprintln!("{}", json!({ "error": self.json() })),
        }
    }

    /// What the process ends with.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }

    /// For a person.
    pub(super) fn text(&self) -> String {
        let mut lines = vec![format!("error: {self}")];
        if let Self::Refused(refused) = self {
            let fields = refused.fields.iter();
            lines.extend(fields.map(|(field, text)| format!("  `{field}`: {text}")));
            let reason = match refused.reason.as_str() {
                "" => code_name(refused.code).to_owned(),
                reason => format!("{reason} ({})", code_name(refused.code)),
            };
            lines.push(format!("  reason: {reason}"));
        }
        lines.extend(self.remedy().map(|remedy| format!("  {remedy}")));
        lines.join("\n")
    }

    /// What to do, where the message does not say it already.
    fn remedy(&self) -> Option<String> {
        match self {
            Self::Read { option, source, .. } => Some(match source.kind() {
                ErrorKind::NotFound => format!("there is no such file: correct {option}"),
                ErrorKind::PermissionDenied => {
                    format!("let this user read it, or name another with {option}")
                }
                _ => format!("name a file with {option}"),
            }),
            Self::Write { source, .. } => Some(match source.kind() {
                ErrorKind::NotFound => "make its folder first, or name another".to_owned(),
                _ => "name a file in a folder that this user may write to".to_owned(),
            }),
            Self::Connection(diagnosis) => Some(diagnosis.remedy.clone()),
            Self::Refused(refused) => refused.remedy(),
            _ => None,
        }
    }

    /// For a program.
    pub(super) fn json(&self) -> Value {
        let message = self.to_string();
        match self {
            Self::Refused(refused) => {
                let fields = refused.fields.iter();
                let fields =
                    fields.map(|(field, text)| json!({"field": field, "description": text}));
                json!({
                    "code": code_name(refused.code), "reason": refused.reason, "message": message,
                    "fields": fields.collect::<Vec<_>>(), "remedy": refused.remedy(),
                    "retry_after_ms": refused.retry_after.map(Span::millis),
                    "request_id": refused.request_id,
                })
            }
            Self::Connection(diagnosis) => {
                json!({"code": "UNAVAILABLE", "message": message, "remedy": diagnosis.remedy})
            }
            Self::Config(errors) => {
                let errors: Vec<_> = errors.problems().iter().map(config::problem).collect();
                json!({ "message": "the configuration has mistakes", "problems": errors })
            }
            _ => match self.remedy() {
                Some(remedy) => json!({ "message": message, "remedy": remedy }),
                None => json!({ "message": message }),
            },
        }
    }
}

impl Refused {
    /// What to do, where the message does not say it already.
    fn remedy(&self) -> Option<String> {
        match self.code {
            // What is wrong with a proof its message says.
            Code::Unauthenticated if self.reason.starts_with("PROOF_") => None,
            Code::Unauthenticated => Some(self.show_yourself.to_owned()),
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted => Some(self.again()),
            Code::Unimplemented => {
                Some("the broker does not know this call: is it of an older version?".to_owned())
            }
            _ => None,
        }
    }

    fn again(&self) -> String {
        let when = match self.retry_after {
            Some(span) => format!("try again in {}", duration::render(span)),
            None => "try again".to_owned(),
        };
        match &self.request_id {
            Some(id) => format!(
                "{when}, with `--request-id {id}`: it is done once, however often it is sent"
            ),
            None => when,
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;
    use crate::cli::diagnosis::Caller;

    const CALLED: Called<'_> = Called { broker: "https://127.0.0.1:7700", caller: Caller::Nobody };

    fn refused(code: Code, message: &str, details: ErrorDetails) -> Failure {
        let status = Status::with_error_details(code, message, details);
        Failure::of_call(&status, CALLED, Some("7d444840-9dc0-11d1-b245-5ffdce74fad2"))
    }

    fn because(reason: &str) -> ErrorDetails {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, "leasehold", []);
        details
    }

    #[test]
    fn a_refusal_shows_message_fields_and_reason() {
        let mut details = because("REQUEST_INVALID");
        details.add_bad_request_violation("tier", "is no tier; there are `standard`, `critical`");
        let failure = refused(Code::InvalidArgument, "the request is not valid", details);
        assert_eq!(
            failure.text(),
            "error: the request is not valid\n  `tier`: is no tier; there are `standard`, `critical`\n  \
             reason: REQUEST_INVALID (INVALID_ARGUMENT)"
        );
        assert_eq!(failure.json()["fields"][0]["field"], "tier");
    }

    #[test]
    fn a_store_that_is_away_says_when_and_how_to_try_again() {
        let mut details = because("NOT_DURABLE");
        details.set_retry_info(Some(Duration::from_millis(1_500)));
        let failure = refused(Code::Unavailable, "not on enough copies", details);
        assert_eq!(
            failure.text(),
            "error: not on enough copies\n  reason: NOT_DURABLE (UNAVAILABLE)\n  try again in 1500ms, with \
             `--request-id 7d444840-9dc0-11d1-b245-5ffdce74fad2`: it is done once, however often it is sent"
        );
        let json = failure.json();
        assert_eq!(json["retry_after_ms"], 1_500);
        assert_eq!(json["request_id"], "7d444840-9dc0-11d1-b245-5ffdce74fad2");
    }

    #[test]
    fn who_is_not_known_is_told_how_to_show_it() {
        let failure = refused(Code::Unauthenticated, "no identity", because("IDENTITY_UNVERIFIED"));
        assert!(failure.text().contains("`--token-file`"), "{}", failure.text());
        let status = Status::with_error_details(
            Code::Unauthenticated,
            "no identity",
            because("IDENTITY_UNVERIFIED"),
        );
        let called = Called { caller: Caller::Token, ..CALLED };
        let text = Failure::of_call(&status, called, None).text();
        assert!(text.contains("the broker's audience") && !text.contains("--cert"), "{text}");
        let proof = refused(Code::Unauthenticated, "no proof", because("PROOF_INVALID"));
        assert!(!proof.text().contains("--cert"), "{}", proof.text());
    }

    #[test]
    fn a_call_that_is_cut_off_says_what_most_likely_did_it() {
        let called = Called { caller: Caller::Certificate, ..CALLED };
        let cancelled = Status::cancelled("operation was canceled");
        let text = Failure::of_call(&cancelled, called, None).text();
        assert!(text.contains("closed the connection after the handshake"), "{text}");
        assert!(text.contains("does not trust the certificate in `--cert`"), "{text}");
        let late = Status::cancelled(TimeoutExpired(()).to_string());
        let text = Failure::of_call(&late, called, None).text();
        assert!(text.contains("DEADLINE_EXCEEDED") && !text.contains("handshake"), "{text}");
        let told = refused(Code::Cancelled, "stopping", because("CANCELLED"));
        assert!(told.text().contains("error: stopping"), "what a broker says is told");
    }

    #[test]
    fn class_17_a_token_in_the_place_of_a_file_is_not_repeated() {
        let token = format!("eyJhbGciOiJFUzI1NiJ9.{}.x", "A".repeat(40));
        let source = std::io::Error::from(ErrorKind::NotFound);
        let failure =
            Failure::Read { option: "`--token-file`", path: token.clone().into(), source };
        assert!(failure.text().contains("looks like a token itself"), "{}", failure.text());
        assert!(!failure.text().contains(&token) && !failure.json().to_string().contains(&token));
    }
}
