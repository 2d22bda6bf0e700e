//! A TLS client that verifies, and tells which certificate it was shown.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::NAME;
use super::authority::{Authority, Issued};
use crate::support::http::{Connection, Failure, Protocol};

/// Trusts one authority and speaks one protocol, which it insists on by ALPN.
pub(super) struct TlsClient {
    connector: TlsConnector,
    protocol: Protocol,
}

/// A connection after its handshake.
pub(super) struct TlsConnection {
    pub(super) http: Connection,
    /// What the server was identified by.
    pub(super) certificate: CertificateDer<'static>,
}

impl TlsClient {
    pub(super) fn new(trusted: &Authority, identity: Option<&Issued>, protocol: Protocol) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.der()).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions that the provider knows")
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(issued) => builder
                .with_client_auth_cert(
                    vec![issued.der.clone()],
                    PrivatePkcs8KeyDer::from(issued.key_der.clone()).into(),
                )
                .expect("a pair that fits"),
        };
        config.alpn_protocols = match protocol {
            Protocol::H1 => vec![b"http/1.1".to_vec()],
            Protocol::H2c => vec![b"h2".to_vec()],
        };
        // A resumed session shows the certificate of the first one.
        config.resumption = Resumption::disabled();
        Self { connector: TlsConnector::from(Arc::new(config)), protocol }
    }

    /// Connects and shakes hands.
    pub(super) async fn connect(&self, addr: SocketAddr) -> Result<TlsConnection, Failure> {
        let stream = TcpStream::connect(addr).await.map_err(|error| format!("cannot connect to {addr}: {error}"))?;
        let name = ServerName::try_from(NAME).expect("a valid name");
        let stream = self.connector.connect(name, stream).await.map_err(|error| format!("no handshake: {error}"))?;
        let session = stream.get_ref().1;
        let certificate = session.peer_certificates().expect("servers have one")[0].clone();
        let expected: &[u8] = match self.protocol {
            Protocol::H1 => b"http/1.1",
            Protocol::H2c => b"h2",
        };
        assert_eq!(session.alpn_protocol(), Some(expected));
        let http = Connection::over(stream, self.protocol).await?;
        Ok(TlsConnection { http, certificate })
    }
}
