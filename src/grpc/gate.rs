//! What every call passes before its handler: who, may they, is there room, until when; and what is said about it after.
//!
//! ```text
//!  path → Rpc → deadline → identity → roles → room → router → handler (demands what the gate left for it)
//! ```

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header, request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tonic::{Code, Status};
use tracing::Instrument;

use super::authz::{self, Admitted, Patience};
use super::lanes::{LaneLimits, Lanes};
use super::public::Public;
use super::recheck::Recheck;
use super::{deadline, status};
use crate::broker::Broker;
use crate::broker::access::{Caller, Rpc};
use crate::identity::authn::Authenticator;
use crate::listen::connections::PeerInfo;
use crate::proto;
use crate::telemetry::metrics;

/// How long an ending may wait for verifiers once it is RECORDED, on top of what every call may take.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What calls may take of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// How long a call may take if its client does not say, and at most.
    pub timeout: Duration,
    /// How many run at a time. As many streams of health again as there are others.
    pub lanes: LaneLimits,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), lanes: LaneLimits::default() }
    }
}

/// The gate of one broker.
pub(super) struct Gate {
    broker: Arc<Broker>,
    authenticator: Arc<Authenticator>,
    lanes: Lanes,
    public: Public,
    timeout: Duration,
}

impl Gate {
    pub(super) fn new(
        broker: Arc<Broker>,
        authenticator: Arc<Authenticator>,
        limits: CallLimits,
    ) -> Self {
        let lanes = Lanes::new(limits.lanes);
        let public = Public::new(limits.lanes.others, limits.timeout);
        Self { broker, authenticator, lanes, public, timeout: limits.timeout }
    }

    async fn admit(&self, rpc: Rpc, head: &request::Parts) -> Result<Admitted, Status> {
        if authz::is_public(rpc) {
            return Ok(Admitted { rpc, caller: None });
        }
        let svid = head.extensions.get::<PeerInfo>().and_then(|peer| peer.svid.as_deref());
        let now = self.broker.now();
        let identity = self.authenticator.authenticate(svid, &head.headers, now).await?;
        tracing::Span::current().record("caller", identity.principal().as_str());
        let caller: Caller = self.broker.caller(identity, rpc)?;
        caller.admit(rpc)?;
        Ok(Admitted { rpc, caller: Some(caller) })
    }

    async fn answer(
        &self,
        rpc: Rpc,
        (until, answer_until): (Instant, Instant),
        request: Request,
        next: Next,
    ) -> Result<Response, Status> {
        let (mut head, body) = request.into_parts();
        let admitted = async {
            let admitted = self.admit(rpc, &head).await?;
            Ok((admitted, self.lanes.enter(rpc).await.map_err(|_| status::no_room())?))
        };
        let admitted = tokio::time::timeout_at(until, admitted).await;
        let (admitted, room) = admitted.unwrap_or_else(|_| Err(status::too_late()))?;
        head.extensions.insert(admitted);
        if matches!(rpc, Rpc::WatchRevocations | Rpc::WatchTask) {
            let (broker, authenticator) = (self.broker.clone(), self.authenticator.clone());
            let recheck = Recheck::new(broker, authenticator, rpc, &head);
            head.extensions.insert(recheck);
        }
        if rpc.is_ending() {
            head.extensions.insert(Patience { room: room.clone(), until, answer_until });
        }
        let answer = next.run(Request::from_parts(head, body)).await;
        drop(room);
        Ok(answer)
    }

    /// How long a call may take at most, where it ends something, beyond what every call may: its answer may wait for verifiers.
    fn longest_wait(rpc: Rpc) -> Duration {
        if rpc.is_ending() { LONGEST_WAIT } else { Duration::ZERO }
    }
}

/// The middleware around the router of all services.
pub(super) async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    if !is_grpc(&request) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let Some(rpc) = authz::resolve(request.uri().path()) else {
        // Health, reflection where it is on, or nothing: no handler of the contract takes it without the gate's word.
        return gate.public.answer(request, next).await;
    };
    let (_, name) = authz::method(rpc);
    let mut told = Told { name, began: Instant::now(), code: "CANCELLED" };
    let span = tracing::info_span!("call", rpc = name, caller = tracing::field::Empty);
    let response = async {
        let most = gate.timeout.saturating_add(Gate::longest_wait(rpc));
        let Some(timeout) = deadline::of(request.headers(), most) else {
            return Err(status::bad_timeout());
        };
        let now = Instant::now();
        let (until, answer_until) = (now + timeout.min(gate.timeout), now + timeout);
        let answer = gate.answer(rpc, (until, answer_until), request, next);
        let answer = tokio::time::timeout_at(answer_until, answer).await;
        answer.unwrap_or_else(|_| Err(status::too_late()))
    }
    .instrument(span.clone())
    .await
    .map(in_our_words)
    .unwrap_or_else(Status::into_http);
    told.code = code_name(&response);
    tracing::debug!(parent: &span, code = told.code, "answered");
    response
}

fn is_grpc(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes());
    request.method() == Method::POST
        && matches!(kind, Some(b"application/grpc" | b"application/grpc+proto"))
}

/// Every status of ours has details. One without comes from the decoder: no message of the RPC, or too large a one.
fn in_our_words(response: Response) -> Response {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.details().is_empty() => status::undecodable().into_http(),
        _ => response,
    }
}

/// Counts the call when it is over, also if its client went away before.
struct Told {
    name: &'static str,
    began: Instant,
    code: &'static str,
}

impl Drop for Told {
    fn drop(&mut self) {
        metrics::call_answered(self.name, self.code, self.began.elapsed());
    }
}

fn code_name(response: &Response) -> &'static str {
    // A unary answer has its status in the headers if it is an error, and in the trailers if it is not.
    let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
    proto::code_name(code)
}
