//! What a token says by itself: checked by the keys that the broker publishes, as any JWT library does it.
//!
//! Whether the task that it was issued for still runs, it does not say: such a server accepts it until `exp`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use leasehold::clock::{Clock as _, SystemClock};
use leasehold::jose::KeySet;
use leasehold::jose::access_token::{self, Confirmation};
use leasehold::verifier::PeerCertificate;
use tokio::sync::watch;

use crate::{ACTIONS, Arguments, KEYS_INTERVAL, Outcome};

/// The broker's keys, read again from time to time: they rotate.
#[derive(Clone)]
pub(crate) struct PublishedKeys {
    keys: watch::Receiver<KeySet>,
    clock: Arc<SystemClock>,
    issuer: String,
    audience: String,
}

/// Why somebody is not let in.
pub(crate) struct Denied(pub(crate) StatusCode, pub(crate) &'static str);

impl PublishedKeys {
    /// Reads the keys once, and goes on doing so.
    pub(crate) async fn fetch(web: reqwest::Client, arguments: &Arguments) -> Outcome<Self> {
        let url = format!("{}/oauth2/jwks", arguments.issuer);
        let (sender, keys) = watch::channel(read(&web, &url).await?);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(KEYS_INTERVAL).await;
                match read(&web, &url).await {
                    Ok(keys) => drop(sender.send_replace(keys)),
                    Err(fault) => eprintln!("{fault}; the keys from before still count"),
                }
            }
        });
        let Arguments { issuer, audience, .. } = arguments.clone();
        Ok(Self { keys, clock: Arc::default(), issuer, audience })
    }

    /// The token of a request, if it is one for us, from whom it was issued to, that allows what is asked for.
    pub(crate) fn check<'r>(&self, request: &'r Request) -> Result<&'r str, Denied> {
        let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = shown.and_then(|value| value.strip_prefix("Bearer "));
        let token = token.ok_or(Denied(StatusCode::UNAUTHORIZED, "show a bearer token"))?;
        let now = self.clock.now();
        let said = access_token::verify(token, &self.keys.borrow(), &self.issuer, now)
            .map_err(|_| Denied(StatusCode::UNAUTHORIZED, "the token is not a valid one"))?;
        // RFC 8705 section 3: whoever shows it holds the key that it was issued for.
        let peer = request.extensions().get::<PeerCertificate>();
        let peer = peer.map(|peer| Confirmation::Certificate(peer.thumbprint()));
        if peer.is_none() || said.confirmation != peer {
            return Err(Denied(StatusCode::UNAUTHORIZED, "the token is bound to another key"));
        }
        if said.audience != self.audience {
            return Err(Denied(StatusCode::UNAUTHORIZED, "the token is for another audience"));
        }
        let allows = |action: &&str| {
            let mut entries = said.grant.entries().iter();
            entries.any(|e| e.audience() == self.audience && e.actions().contains(*action))
        };
        if ACTIONS.iter().all(allows) {
            return Ok(token);
        }
        Err(Denied(StatusCode::FORBIDDEN, "the token does not allow that"))
    }
}

/// Lets in whose token is as it should be, and asks nobody.
pub(crate) async fn by_published_keys(
    State(published): State<PublishedKeys>,
    request: Request,
    next: Next,
) -> Result<Response, Denied> {
    published.check(&request)?;
    Ok(next.run(request).await)
}

async fn read(web: &reqwest::Client, url: &str) -> Outcome<KeySet> {
    let answer = web.get(url).send().await.and_then(reqwest::Response::error_for_status);
    let answer = answer.map_err(|fault| format!("`{url}` has no keys for us: {fault}"))?;
    Ok(KeySet::parse(&answer.bytes().await?)?)
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let Self(status, why) = self;
        let mut response = (status, format!("{why}\n")).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = "Bearer error=\"invalid_token\"".parse();
            response.headers_mut().extend(challenge.ok().map(|value| (WWW_AUTHENTICATE, value)));
        }
        response
    }
}
