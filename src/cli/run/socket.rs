//! A Unix socket that always has a fresh token: `GET /` answers in JSON, `GET /?audience=…` where there are several.
//!
//! ```text
//! 200 {"access_token":"…","token_type":"Bearer","expires_at":"2026-11-22T15:00:00Z","audience":"https://…","task_id":"tsk_…",
//!      "epoch":1,"lease_id":"lse_…"}     and `certificate_chain`, `private_key` in PEM where the token is bound to a new key
//! 503 {"error":"temporarily_unavailable","error_description":"the task is suspended"}     now; perhaps not in a second
//! 400 {"error":"invalid_target","error_description":"…"}     no such audience, or several and none named
//! ```
//!
//! Nobody but the user who runs the command is let in: by the file's mode, and by what the system says of the peer.

use std::convert::Infallible;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Form, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::Uid;
use serde::Deserialize;
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::keeper::{Minted, Slot};
use crate::cli::failure::Failure;
use crate::cli::show::pem;
use crate::cli::socket_file;

/// Connections at a time; more wait.
const MOST_CONNECTIONS: usize = 64;
/// How long a request may take to be sent, and a connection may last.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const LONGEST_CONNECTION: Duration = Duration::from_secs(300);

/// What the socket answers from: the audiences, and what there is for each.
pub(super) type Slots = Vec<(String, watch::Receiver<Slot>)>;

/// A path that whoever is told of it can connect to, wherever he is.
///
/// # Errors
/// What to do, in words.
pub(super) fn fit(path: PathBuf) -> Result<PathBuf, String> {
    // One that is empty, or relative where there is no folder, cannot be bound either, and is told of there.
    let whole = absolute(&path).unwrap_or_else(|_| path.clone());
    socket_file::must_fit(&whole).map(|()| path)
}

/// Binds the socket at a path where nothing is yet. It is never there with other rights than its owner's.
pub(super) fn bind(path: &Path) -> Result<UnixListener, Failure> {
    let name = |why| Failure::Usage(format!("`{}`: {why}; `--socket` says where", path.display()));
    fit(path.to_owned()).map_err(name)?;
    let failed = |source| Failure::Write { path: path.to_owned(), source };
    socket_file::bind(path, 0o600).map_err(failed)
}

/// Answers this user until it is dropped.
pub(super) async fn serve(listener: UnixListener, slots: Slots, user: Uid) -> Infallible {
    let router = Router::new().route("/", get(answer)).with_state(Arc::new(slots));
    let mut open = JoinSet::new();
    loop {
        while open.len() >= MOST_CONNECTIONS {
            open.join_next().await;
        }
        while open.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((peer, _)) if is_of(&peer, user) => {
                open.spawn(converse(peer, router.clone()));
            }
            Ok(_) => {}
            // No descriptor is left; one is when a connection ends.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Whether the peer is this user, by the kernel's word.
fn is_of(peer: &UnixStream, user: Uid) -> bool {
    peer.peer_cred().is_ok_and(|peer| peer.uid() == user.as_raw())
}

async fn converse(peer: UnixStream, router: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let service = TowerToHyperService::new(router);
    let _ = timeout(LONGEST_CONNECTION, http.serve_connection(TokioIo::new(peer), service)).await;
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    audience: Option<String>,
}

async fn answer(State(slots): State<Arc<Slots>>, Form(asked): Form<Asked>) -> Response {
    let found = match (&asked.audience, slots.as_slice()) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(audience), all) => all.iter().find(|(name, _)| name == audience),
    };
    let Some((_, slot)) = found else {
        let names: Vec<_> = slots.iter().map(|(name, _)| format!("`{name}`")).collect();
        let text = format!("name one with `?audience=`; there is {}", names.join(", "));
        return refusal(StatusCode::BAD_REQUEST, "invalid_target", &text);
    };
    let slot = slot.borrow().clone();
    match slot {
        Slot::Live(minted) if Instant::now() < minted.until => token(&minted),
        Slot::Live(_) => unavailable("it has expired"),
        Slot::Empty(why) => unavailable(&why),
    }
}

fn token(minted: &Minted) -> Response {
    let mut body = json!({
        "access_token": minted.token.expose_text(),
        "token_type": minted.token_type,
        "expires_at": minted.expires,
        "audience": minted.audience,
        "task_id": minted.task_id,
        "epoch": minted.epoch,
        "lease_id": minted.lease_id,
    });
    if let (Some((chain, key)), Some(body)) = (&minted.pair, body.as_object_mut()) {
        body.insert("certificate_chain".to_owned(), pem("CERTIFICATE", chain).into());
        body.insert("private_key".to_owned(), key.pem().into());
    }
    not_stored((StatusCode::OK, Json(body)).into_response())
}

fn unavailable(why: &str) -> Response {
    let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", why);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn refusal(status: StatusCode, error: &str, text: &str) -> Response {
    let body = json!({ "error": error, "error_description": text });
    not_stored((status, Json(body)).into_response())
}

fn not_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use rustix::process::geteuid;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::domain::secret::Secret;

    fn slots(until: Instant) -> Slots {
        let minted = Minted {
            token: Secret::from("a.b.c".to_owned()),
            token_type: "Bearer".to_owned(),
            audience: "https://api.example".to_owned(),
            task_id: String::new(),
            epoch: 1,
            lease_id: String::new(),
            expires: String::new(),
            until,
            pair: None,
        };
        let (_, slot) = watch::channel(Slot::Live(Arc::new(minted)));
        vec![("https://api.example".to_owned(), slot)]
    }

    /// What we are told by a socket that is for this user.
    async fn told(user: Uid) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = bind(&path).unwrap();
        let slots = slots(Instant::now() + Duration::from_secs(300));
        let mut told = Vec::new();
        let ask = async {
            let mut peer = UnixStream::connect(&path).await.unwrap();
            let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            // Whoever is not let in may find the door closed at either step.
            let _ = peer.write_all(request).await;
            let _ = peer.read_to_end(&mut told).await;
        };
        tokio::select! {
            () = ask => {}
            never = serve(listener, slots, user) => match never {},
        }
        String::from_utf8(told).unwrap()
    }

    #[test]
    fn a_path_that_is_too_long_for_a_socket_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let most = 107 - folder.path().as_os_str().len() - 1;
        for (length, is_taken) in [(most, true), (most + 1, false)] {
            let path = folder.path().join("s".repeat(length));
            let bound = tokio::runtime::Runtime::new().unwrap().block_on(async { bind(&path) });
            assert_eq!(bound.is_ok(), is_taken, "{length}");
            if let Err(refused) = bound {
                let refused = refused.to_string();
                assert!(refused.contains("more than 107 bytes"), "{refused}");
                assert!(refused.contains("`--socket` says where"), "{refused}");
            }
        }
        // Whoever is told of it is told where it is from the root on.
        assert_eq!(fit("s".into()), Ok("s".into()));
        assert!(fit("./".repeat(20).into()).is_ok() && fit("s".repeat(107).into()).is_err());
    }

    #[tokio::test]
    async fn another_user_who_reaches_the_socket_is_told_nothing() {
        assert!(told(geteuid()).await.contains("a.b.c"));
        assert_eq!(told(Uid::from_raw(geteuid().as_raw() ^ 1)).await, "");
    }

    #[tokio::test]
    async fn a_token_is_answered_until_its_expiry_and_not_then() {
        for (until, status) in [
            (Instant::now() + Duration::from_secs(300), StatusCode::OK),
            (Instant::now(), StatusCode::SERVICE_UNAVAILABLE),
        ] {
            let asked = Form(Asked { audience: None });
            let response = answer(State(Arc::new(slots(until))), asked).await;
            assert_eq!(response.status(), status);
        }
    }
}
