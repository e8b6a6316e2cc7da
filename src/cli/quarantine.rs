//! `leasehold quarantine`: an agent, a key, an issuer went bad.

use clap::{Args, Subcommand};
use serde_json::json;

use super::arguments::{self, RequestId};
use super::client::Client;
use super::failure::Failure;
use super::show::{self, Shown};
use super::waiting::Waiting;
use crate::proto::v1;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Quarantine {
    #[command(subcommand)]
    lift: Option<Lift>,
    /// `principal:<canonical>`, `class:<name>`, `orchestrator:<entry>`, `issuer:<name>`, `td:<trust domain>`, `key:<id>`,
    /// `tier:<name>` or `all`. A signing key that leaked is named by its `kid`, or a CA by its subject key identifier in hex: it is
    /// out of use for good, and a successor signs in a few seconds
    #[arg(value_parser = arguments::scope, required = true)]
    scope: Option<String>,
    /// Why
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    request: RequestId,
}

#[derive(Debug, Subcommand)]
enum Lift {
    /// Let issuing for the scope go on; what was killed stays dead, and a signing key out of use
    Lift(What),
}

#[derive(Debug, Args)]
struct What {
    /// `principal:<canonical>`, `class:<name>`, `orchestrator:<entry>`, `issuer:<name>`, `td:<trust domain>`, `key:<id>`,
    /// `tier:<name>` or `all`
    #[arg(value_parser = arguments::scope)]
    scope: String,
    /// Why
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    request: RequestId,
}

impl Quarantine {
    /// Asks the broker.
    pub(super) async fn run(self, client: &Client) -> Result<Shown, Failure> {
        let Self { reason, request, waiting, .. } = self;
        match (self.lift, self.scope) {
            (Some(Lift::Lift(what)), _) => lift(what, client).await,
            (None, Some(scope)) => {
                quarantine(What { scope, reason, request }, waiting, client).await
            }
            (None, None) => Err(Failure::Usage("name a scope, like `class:finance`".to_owned())),
        }
    }
}

async fn quarantine(what: What, waiting: Waiting, client: &Client) -> Result<Shown, Failure> {
    let id = what.request.into_id();
    let request_id = id.clone();
    let request = v1::QuarantineRequest {
        request_id,
        scope: what.scope,
        reason: what.reason,
        ..Default::default()
    };
    let call = async |request| client.operators().quarantine(request).await;
    let answer = waiting.end(client, &id, request, call).await?;
    let text = format!(
        "{} is quarantined: nothing is issued until `leasehold quarantine lift {0}`",
        answer.scope
    );
    let json = json!({ "scope": answer.scope, "warning": answer.warning });
    let shown = Shown::new(json, text);
    let shown = show::with_revocation(shown, answer.revocation.as_ref(), waiting.wanted());
    Ok(shown.warning(&answer.warning))
}

async fn lift(what: What, client: &Client) -> Result<Shown, Failure> {
    let id = what.request.into_id();
    let request_id = id.clone();
    let request = v1::LiftQuarantineRequest { request_id, scope: what.scope, reason: what.reason };
    let answer = client.change(&id, client.operators().lift_quarantine(request)).await?;
    let lifted_at = show::time(answer.lifted_at);
    let text = format!("{} is not quarantined any more; what was killed stays dead", answer.scope);
    let json = json!({ "scope": answer.scope, "lifted_at": lifted_at, "warning": answer.warning });
    Ok(Shown::new(json, text).warning(&answer.warning))
}
