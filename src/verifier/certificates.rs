//! Connections of whoever shows a certificate for a task: the handshake checks it, and the connection lasts no longer than it.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::admission::Admission;
use super::credential::Credential;
use super::handle::Verifier;
use super::peer::PeerCertificate;
use super::refused::Refused;
use crate::domain::lattice::Dead;
use crate::domain::time::Span;
use crate::spiffe::leaf::LeafError;
use crate::spiffe::task_certificate::TaskCertificateError;

/// Takes client certificates for tasks that live, signed by the broker's own authority. Nobody connects without one.
///
/// Whether they are meant for this server, and what they allow, only their lease says; what is checked is that the task lives.
#[derive(Debug)]
pub struct TaskCertificates {
    verifier: Verifier,
    algorithms: WebPkiSupportedAlgorithms,
}

impl TaskCertificates {
    /// By what this verifier knows.
    pub fn new(verifier: Verifier) -> Self {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Self { verifier, algorithms }
    }
}

impl ClientCertVerifier for TaskCertificates {
    fn client_auth_mandatory(&self) -> bool {
        true
    }

    /// None: which authorities there are is not for everyone who connects.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let present = self.verifier.present();
        let intermediates: Vec<&[u8]> = intermediates.iter().map(AsRef::as_ref).collect();
        match self.verifier.checker().check_certificate((end_entity, &intermediates), present) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refused) => Err(Error::InvalidCertificate(kind(refused))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The peer sees the alert that fits (RFC 8446 section 6.2).
fn kind(refused: Refused) -> CertificateError {
    match refused {
        Refused::Certificate(TaskCertificateError::Leaf(LeafError::Expired)) => {
            CertificateError::Expired
        }
        Refused::Certificate(TaskCertificateError::Leaf(LeafError::NotYetValid)) => {
            CertificateError::NotValidYet
        }
        Refused::Certificate(TaskCertificateError::Leaf(LeafError::Malformed)) => {
            CertificateError::BadEncoding
        }
        Refused::Certificate(TaskCertificateError::Signature) => CertificateError::UnknownIssuer,
        Refused::Dead(Dead::Lost | Dead::Fenced | Dead::Quarantined | Dead::LeaseOver) => {
            CertificateError::Revoked
        }
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
}

/// Accepts connections of whoever shows a certificate for a task, and ends each when its certificate dies, expires, or can no
/// longer be known to live.
#[derive(Clone)]
pub struct Acceptor {
    verifier: Verifier,
    tls: TlsAcceptor,
}

impl Acceptor {
    /// Over a configuration whose client verifier is [`TaskCertificates`]. Sessions are not resumed: that would bring back a
    /// certificate that nobody looked at again.
    pub fn new(verifier: Verifier, mut config: ServerConfig) -> Self {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Self { verifier, tls: TlsAcceptor::from(Arc::new(config)) }
    }

    /// Shakes hands. Set a time limit: a peer that says nothing is waited for.
    ///
    /// # Errors
    /// The handshake's, the certificate's own among them.
    pub async fn accept<IO>(&self, io: IO) -> io::Result<Connection<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let tls = self.tls.accept(io).await?;
        let shown = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let (leaf, intermediates) =
            shown.split_first().ok_or_else(|| io::Error::other(Refused::Nothing))?;
        let intermediates: Vec<&[u8]> = intermediates.iter().map(AsRef::as_ref).collect();
        // Once more, and now held: it may have died since the handshake looked.
        let (checker, present) = (self.verifier.checker(), self.verifier.present());
        let admission = checker.check_certificate((leaf, &intermediates), present);
        let admission = Arc::new(admission.map_err(io::Error::other)?);
        let peer = PeerCertificate::new(leaf);
        let [reading, writing] = [(); 2].map(|()| -> Over {
            Box::pin(until_over(self.verifier.clone(), Arc::clone(&admission)))
        });
        Ok(Connection { tls, peer, admission, reading, writing, is_over: None })
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Acceptor({:?})", self.verifier)
    }
}

/// Waits until what was let in should end, and says why: its credential died or expired, or is not known to live any more.
///
/// Each time that it is polled it looks at the clock, whatever timers do: they do not count while the machine sleeps.
pub async fn until_over(verifier: Verifier, admission: Arc<Admission>) -> Refused {
    let mut revoked = pin!(admission.revoked());
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(|context| {
        if let Poll::Ready(dead) = revoked.as_mut().poll(context) {
            return Poll::Ready(dead.into());
        }
        loop {
            let lasts = match lasts(&verifier, admission.credential()) {
                Ok(lasts) => lasts,
                Err(refused) => return Poll::Ready(refused),
            };
            ready!(timer.as_mut().poll(context));
            timer.as_mut().reset(Instant::now() + lasts.to_std());
        }
    })
    .await
}

/// How long a credential is good for, if nothing more is heard; never nothing.
fn lasts(verifier: &Verifier, credential: &Credential) -> Result<Span, Refused> {
    let (mirror, present) = (verifier.checker().mirror(), verifier.present());
    let delta = credential.execution().freshness;
    let view = mirror.view();
    let lives = credential.expires().since(mirror.now(&view, present));
    if lives == Span::ZERO {
        return Err(TaskCertificateError::from(LeafError::Expired).into());
    }
    match lives.min(view.fresh_for(present, delta)) {
        Span::ZERO => Err(Refused::Stale(delta)),
        lasts => Ok(lasts),
    }
}

/// Done when a connection is over, with why.
type Over = Pin<Box<dyn Future<Output = Refused> + Send>>;

/// A connection that ends with its certificate: from then on reading and writing fail.
pub struct Connection<IO> {
    tls: TlsStream<IO>,
    peer: PeerCertificate,
    /// Held until this is dropped: what runs on the connection may run on for a moment after it.
    admission: Arc<Admission>,
    // INVARIANT (both halves end): a task reads and another one writes, and each is woken by its own.
    reading: Over,
    writing: Over,
    is_over: Option<Refused>,
}

impl<IO> Connection<IO> {
    /// The certificate that it shows.
    pub fn peer(&self) -> &PeerCertificate {
        &self.peer
    }

    /// What the certificate says.
    pub fn credential(&self) -> &Arc<Credential> {
        self.admission.credential()
    }

    // INVARIANT (no longer than its certificate): every way to read or write asks first, and is woken when it is over.
    fn must_last(
        &mut self,
        half: impl FnOnce(&mut Self) -> &mut Over,
        context: &mut Context<'_>,
    ) -> io::Result<()> {
        if self.is_over.is_none()
            && let Poll::Ready(refused) = half(self).as_mut().poll(context)
        {
            self.is_over = Some(refused);
        }
        match &self.is_over {
            None => Ok(()),
            Some(refused) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, refused.clone())),
        }
    }
}

impl<IO> std::fmt::Debug for Connection<IO> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.admission.credential().execution().lease)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.must_last(|this| &mut this.reading, context)?;
        Pin::new(&mut self.tls).poll_read(context, buffer)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.must_last(|this| &mut this.writing, context)?;
        Pin::new(&mut self.tls).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.must_last(|this| &mut this.writing, context)?;
        Pin::new(&mut self.tls).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(context)
    }
}
