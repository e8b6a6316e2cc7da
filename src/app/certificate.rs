//! What the broker shows its callers, from files or from the Workload API.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{AppError, Seams};
use crate::config::Config;
use crate::config::listen::CertificateSource;
use crate::config::store;
use crate::domain::time::Stamp;
use crate::listen::certificate::ServerCertificate;
use crate::listen::certificate::files::CertificateFiles;
use crate::listen::certificate::workload_api::SvidSource;
use crate::workload_api::WorkloadApi;

/// The certificate, and the files to look at again if it is from files.
pub(super) struct Certificate {
    pub(super) shown: Arc<ServerCertificate>,
    files: Option<Arc<CertificateFiles>>,
}

/// Answers as soon as there is a certificate to show.
pub(super) async fn load(
    config: &Config,
    seams: &Seams,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Certificate, AppError> {
    match config.tls.clone() {
        CertificateSource::Files(store::CertificateFiles { cert_file, key_file }) => {
            let files = Arc::new(CertificateFiles::load(cert_file, key_file, seams.clock.now())?);
            Ok(Certificate { shown: files.certificate(), files: Some(files) })
        }
        CertificateSource::WorkloadApi { endpoint, spiffe_id } => {
            let Seams { clock, entropy } = seams.clone();
            let source = SvidSource { api: WorkloadApi::at(endpoint)?, spiffe_id, clock, entropy };
            Ok(Certificate { shown: source.follow(tasks, stop).await?, files: None })
        }
    }
}

impl Certificate {
    /// Looks at the files, if there are any, and tells how long what is shown lives.
    pub(super) async fn look(&self, now: Stamp) {
        if let Some(files) = self.files.clone() {
            // A fault was logged; a read that panicked is tried again.
            let _ = tokio::task::spawn_blocking(move || files.reload()).await;
        }
        self.shown.tell_expiry(now);
    }
}
