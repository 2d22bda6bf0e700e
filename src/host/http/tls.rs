//! TLS: what servers prove themselves with, whom they let in, and the handshake.
//!
//! Certificate and key are a pointer behind the acceptor: a rotated pair serves the next handshake, and connections and
//! their resumption go on. Other client authorities need another acceptor, which the next connection uses.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use crate::config::HttpTls;
use crate::config::pem::{PemError, certified_key, not_after};
use crate::host::http::activity::FAREWELL;
use crate::host::http::shared::{Phase, Shared};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be used.
    #[error("cannot load certificates for HTTP")]
    LoadFiles(#[source] PemError),
    /// The client authorities cannot be used.
    #[error("cannot verify clients by `http.tls.client_ca`")]
    VerifyClients(#[source] rustls::server::VerifierBuilderError),
    /// The library refuses.
    #[error("cannot set TLS up for HTTP")]
    SetUp(#[source] rustls::Error),
}

/// The two ends of one certificate: who it is shown to, and until when.
#[derive(Debug)]
struct Pair {
    certified_key: Arc<CertifiedKey>,
    not_after: Option<SystemTime>,
}

/// The pair that the next handshake uses.
#[derive(Debug)]
struct Certificates(ArcSwap<Pair>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().certified_key))
    }
}

/// TLS as one server offers it.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    certificates: Arc<Certificates>,
    /// Whose certificates clients must have; `None`: they need none.
    client_authorities: Option<Arc<HashSet<CertificateDer<'static>>>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("not_after", &self.not_after()).finish_non_exhaustive()
    }
}

impl Tls {
    /// Loads keys, which takes a while: not for an async worker.
    pub(crate) fn new(HttpTls { cert, key, client_ca }: &HttpTls) -> Result<Self, TlsError> {
        let certified_key = certified_key(cert, key).map_err(TlsError::LoadFiles)?;
        let not_after = certified_key.cert.first().and_then(not_after);
        let pair = Pair { certified_key: Arc::new(certified_key), not_after };
        let certificates = Arc::new(Certificates(ArcSwap::from_pointee(pair)));
        let trusted = match client_ca {
            None => None,
            Some(file) => {
                let authorities = file.certificates().map_err(TlsError::LoadFiles)?;
                Some((file.roots().map_err(TlsError::LoadFiles)?, authorities))
            }
        };
        let (roots, authorities) = trusted.unzip();
        let client_authorities = authorities.map(|authorities| Arc::new(authorities.into_iter().collect()));
        let config = server_config(Arc::clone(&certificates), roots)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificates, client_authorities })
    }

    /// When the certificate that is shown now expires.
    pub(crate) fn not_after(&self) -> Option<SystemTime> {
        self.certificates.0.load().not_after
    }

    /// What is to be used from now on in place of `live`: that one with our pair, if it lets in the same clients.
    pub(super) fn succeed(self, live: Option<&Self>) -> Self {
        match live {
            Some(live) if live.client_authorities == self.client_authorities => {
                live.certificates.0.store(self.certificates.0.load_full());
                live.clone()
            }
            Some(_) | None => self,
        }
    }

    /// Whether someone who got in by `old` might not get in any more.
    pub(super) fn closes_door(old: Option<&Self>, new: Option<&Self>) -> bool {
        match (old, new) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(old), Some(new)) => match (&old.client_authorities, &new.client_authorities) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(old), Some(new)) => !old.is_subset(new),
            },
        }
    }

    /// The handshake of one connection; `None` if it fails, takes longer than `limit`, or the server is cut.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        shared: &Shared,
        limit: Duration,
    ) -> Option<TlsStream<TcpStream>> {
        let mut handshake = pin!(self.acceptor.accept(stream));
        let mut deadline = Instant::now() + limit;
        loop {
            let changed = shared.changed();
            match shared.phase() {
                Phase::Serving => {}
                Phase::Draining => deadline = deadline.min(Instant::now() + FAREWELL),
                Phase::Cut => return None,
            }
            // The handshake is pinned outside and only polled here; what is dropped is a wait.
            tokio::select! {
                result = &mut handshake => {
                    return result.inspect_err(|error| {
                        shared.meter.handshake_failed();
                        debug!(%error, "TLS handshake failed");
                    }).ok();
                }
                () = changed => {}
                () = sleep_until(deadline) => {
                    shared.meter.handshake_failed();
                    debug!("TLS handshake took too long");
                    return None;
                }
            }
        }
    }
}

fn server_config(
    certificates: Arc<Certificates>,
    client_roots: Option<RootCertStore>,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = match client_roots {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(roots) => client_verifier(roots, &provider)?,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::SetUp)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Sealed with keys that change every few hours and are kept nowhere: any number of clients may resume.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::SetUp)?;
    Ok(config)
}

fn client_verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(TlsError::VerifyClients)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;
    use crate::config::PemFile;

    fn pair(is_ca: IsCa) -> (String, String) {
        let mut params = CertificateParams::new(vec!["a".to_owned()]).unwrap();
        params.is_ca = is_ca;
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn authority() -> String {
        pair(IsCa::Ca(BasicConstraints::Unconstrained)).0
    }

    fn tls(client_ca: Option<&str>) -> Tls {
        let (cert, key) = pair(IsCa::NoCa);
        let file = |text: &str| PemFile::new("x.pem", text.as_bytes());
        Tls::new(&HttpTls { cert: file(&cert), key: file(&key), client_ca: client_ca.map(file) }).unwrap()
    }

    fn shown(tls: &Tls) -> CertificateDer<'static> {
        tls.certificates.0.load().certified_key.cert[0].clone()
    }

    #[test]
    fn a_new_pair_goes_into_the_live_acceptor_unless_other_clients_are_let_in() {
        let (live, new) = (tls(None), tls(None));
        let wanted = shown(&new);
        let used = new.succeed(Some(&live));
        assert!(Arc::ptr_eq(&used.certificates, &live.certificates));
        assert_eq!(shown(&live), wanted);

        let stricter = tls(Some(&authority()));
        let wanted = shown(&stricter);
        let used = stricter.succeed(Some(&live));
        assert!(!Arc::ptr_eq(&used.certificates, &live.certificates));
        assert_eq!(shown(&used), wanted);
        assert!(used.not_after().is_some());
    }

    #[test]
    fn a_door_closes_where_someone_may_be_kept_out() {
        let (one, other) = (authority(), authority());
        let both = format!("{one}{other}");
        let (open, by_one, by_both) = (tls(None), tls(Some(&one)), tls(Some(&both)));
        let closes = |old: Option<&Tls>, new: Option<&Tls>| Tls::closes_door(old, new);
        assert!(closes(None, Some(&open)) && closes(Some(&open), Some(&by_one)));
        assert!(closes(Some(&by_both), Some(&by_one)) && closes(Some(&tls(Some(&other))), Some(&by_one)));
        assert!(!closes(Some(&by_one), Some(&by_both)) && !closes(Some(&by_both), Some(&open)));
        assert!(!closes(Some(&by_one), None) && !closes(None, None) && !closes(Some(&open), Some(&tls(None))));
    }
}
