//! An ending, from its verb to its answer: done, RECORDED, out of the lane, and only then waiting for verifiers.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

use super::authz::Patience;
use super::convert::revocation::{self, Wait};
use super::status;
use crate::broker::error::BrokerError;
use crate::broker::{Broker, Revoked};
use crate::domain::time::Span;
use crate::feed::WaitFor;
use crate::proto::v1;

/// What is left of a call's time for its answer to reach the caller, at most.
const MARGIN: Duration = Duration::from_millis(500);

impl Patience {
    /// Does the verb, and waits as its caller wants to; its deadline, which ends the wait early, is no error any more then.
    pub(super) async fn run<V>(
        self,
        broker: &Broker,
        wait: Wait,
        verb: impl Future<Output = Result<(V, Revoked), BrokerError>>,
    ) -> Result<(V, v1::Revocation), Status> {
        let began = Instant::now();
        let done = tokio::time::timeout_at(self.until, verb).await;
        let (view, revoked) = done.map_err(|_| status::too_late())??;
        let is_place = self.room.leave();
        let wait_for = if is_place { wait.wait_for } else { WaitFor::Recorded };
        let at_most = left(self.answer_until.duration_since(began), Instant::now() - began);
        let outcome = broker.enforced(&revoked, wait_for, wait.timeout, at_most).await;
        Ok((view, revocation::revocation(outcome)))
    }
}

/// How long to wait, so that the answer reaches a caller that will be there for `whole` of which so much is `spent`.
fn left(whole: Duration, spent: Duration) -> Span {
    whole.saturating_sub(MARGIN.min(whole / 5)).saturating_sub(spent).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_leaves_before_the_caller_does() {
        let millis = Duration::from_millis;
        assert_eq!(left(millis(10_000), millis(500)), Span::from_millis(9_000));
        assert_eq!(left(millis(1_000), millis(100)), Span::from_millis(700));
        assert_eq!(left(millis(1_000), millis(900)), Span::ZERO);
        assert_eq!(left(Duration::ZERO, millis(900)), Span::ZERO);
    }
}
