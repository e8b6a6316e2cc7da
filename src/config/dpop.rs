//! `[dpop]`: what proofs of possession must say (RFC 9449).

use super::document::Field;
use super::section::Section;
use super::value::{self, presentable};
use crate::jose::dpop::HttpsUri;

/// What callers' proofs must say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dpop {
    /// Where callers may say that they call; `None`: the host of `base_url`, and the address of `listen.grpc`, at its port.
    pub targets: Option<Vec<HttpsUri>>,
    /// Whether a proof must have a nonce of the broker's.
    pub is_nonce_required: bool,
}

pub(super) fn read(section: &mut Section<'_>) -> Option<Dpop> {
    let targets = section.optional("targets", value::list(target));
    let nonces = [("off", false), ("required", true)];
    let nonce = section.or("nonce", false, value::choice(&nonces));
    Some(Dpop { targets: targets?, is_nonce_required: nonce? })
}

fn target(field: &Field<'_>) -> Option<HttpsUri> {
    let text = value::text(field)?;
    match HttpsUri::parse(text) {
        Ok(uri) if uri.is_origin() && !text.ends_with('/') => Some(uri),
        Ok(_) => field.refuse(format!("is `{}`; write it without a path", presentable(text))),
        Err(error) => field.refuse(format!("is `{}`, which {error}", presentable(text))),
    }
}
