//! Webhooks: each with the way to its receiver.

use std::sync::Arc;

use super::{AppError, Seams, keys, store};
use crate::config;
use crate::feed::Feed;
use crate::webhooks::{HttpReceiver, Parts, Post, ReceiverError, Settings, Webhooks};

/// The receiver of a webhook cannot be pushed to.
#[derive(Debug, thiserror::Error)]
#[error("webhook `{webhook}`: {fault}")]
pub struct WebhookError {
    /// Its name.
    webhook: String,
    /// Why.
    fault: ReceiverError,
}

/// The webhooks of a configuration. Nothing runs yet, and the broker's record must not be written before.
pub(super) async fn make(
    configured: &[config::webhooks::Webhook],
    store: &store::Opened,
    feed: &Arc<Feed>,
    keyring: &keys::Keyring,
    seams: &Seams,
) -> Result<Arc<Webhooks>, AppError> {
    let parts = Parts {
        store: store.store.clone(),
        events: store.feed.clone(),
        feed: feed.clone(),
        keys: keyring.shared.clone(),
        clock: seams.clock.clone(),
        entropy: seams.entropy.clone(),
    };
    let webhooks: Result<_, AppError> = configured.iter().map(webhook).collect();
    Ok(Webhooks::new(parts, webhooks?).await)
}

fn webhook(configured: &config::webhooks::Webhook) -> Result<(Settings, Arc<dyn Post>), AppError> {
    let bearer = configured.bearer.as_ref().map(|source| source.read()).transpose()?;
    let receiver = HttpReceiver::new(
        configured.url.clone(),
        bearer.as_ref(),
        configured.ca_file.as_deref(),
        configured.timeout,
        configured.danger_loopback,
    );
    let named = |fault| WebhookError { webhook: configured.name.to_string(), fault };
    let settings = Settings {
        name: configured.name.clone(),
        audience: configured.audience.clone(),
        interest: configured.interest.clone(),
        give_up_after: configured.give_up_after,
    };
    Ok((settings, Arc::new(receiver.map_err(named)?)))
}
