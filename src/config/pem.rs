//! PEM files of TLS: what is in them, whether a key belongs to a certificate, and until when that is valid.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{Error as BlockError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{InconsistentKeys, RootCertStore};
use time::{Date, Month, PrimitiveDateTime, Time};

/// A PEM file with the content it had when the configuration was read: what is checked is what is used.
#[derive(Clone, PartialEq, Eq)]
pub struct PemFile {
    path: PathBuf,
    content: Arc<[u8]>,
}

impl fmt::Debug for PemFile {
    /// The content may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Why a file cannot be used. What a block's parser says is left out: it may quote a line of a key.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum PemError {
    #[error("{} holds no PEM certificate", .0.display())]
    FindCertificate(PathBuf),
    #[error("{} holds no PEM private key (PKCS#8, PKCS#1 or SEC1, without a passphrase)", .0.display())]
    FindKey(PathBuf),
    #[error("{} is cut off or damaged: a PEM block in it cannot be read", .0.display())]
    ReadBlock(PathBuf),
    #[error("{} holds a certificate that cannot be used", .0.display())]
    UseCertificate(PathBuf, #[source] rustls::Error),
    #[error("{} holds a private key that cannot be used", .0.display())]
    UseKey(PathBuf, #[source] rustls::Error),
    #[error("the key in {} does not belong to the certificate in {}", key.display(), cert.display())]
    MatchKey { cert: PathBuf, key: PathBuf },
}

impl PemFile {
    /// `content` as it was read from `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, content: impl Into<Arc<[u8]>>) -> Self {
        Self { path: path.into(), content: content.into() }
    }

    /// Where it was read.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All certificates in it, at least one.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PemError> {
        let blocks: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.content).collect();
        match blocks {
            Ok(certificates) if certificates.is_empty() => Err(PemError::FindCertificate(self.path.clone())),
            Ok(certificates) => Ok(certificates),
            Err(_may_quote_a_key) => Err(PemError::ReadBlock(self.path.clone())),
        }
    }

    /// As [`certificates`](Self::certificates), the first being one that can be shown to peers.
    pub(crate) fn chain(&self) -> Result<Vec<CertificateDer<'static>>, PemError> {
        let chain = self.certificates()?;
        if let Some(Err(error)) = chain.first().map(ParsedCertificate::try_from) {
            return Err(PemError::UseCertificate(self.path.clone(), error));
        }
        Ok(chain)
    }

    /// The first private key in it.
    fn private_key(&self) -> Result<PrivateKeyDer<'static>, PemError> {
        PrivateKeyDer::from_pem_slice(&self.content).map_err(|error| match error {
            BlockError::NoItemsFound => PemError::FindKey(self.path.clone()),
            _may_quote_a_key => PemError::ReadBlock(self.path.clone()),
        })
    }

    /// As [`private_key`](Self::private_key), of a kind that can sign.
    pub(crate) fn signing_key(&self) -> Result<Arc<dyn SigningKey>, PemError> {
        aws_lc_rs::default_provider()
            .key_provider
            .load_private_key(self.private_key()?)
            .map_err(|error| PemError::UseKey(self.path.clone(), error))
    }

    /// Its certificates as authorities to trust.
    pub(crate) fn roots(&self) -> Result<RootCertStore, PemError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| PemError::UseCertificate(self.path.clone(), error))?;
        }
        Ok(roots)
    }
}

/// A certificate chain with its key, ready to be shown to peers. Fails unless the two belong together.
pub(crate) fn certified_key(cert: &PemFile, key: &PemFile) -> Result<CertifiedKey, PemError> {
    let certified = CertifiedKey::new(cert.chain()?, key.signing_key()?);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(PemError::MatchKey { cert: cert.path.clone(), key: key.path.clone() })
        }
        Err(error) => Err(PemError::UseCertificate(cert.path.clone(), error)),
    }
}

/// When a certificate expires; `None` if it does not say so in a way that RFC 5280 allows.
pub(crate) fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (_, outer, _) = element(certificate)?;
    let (_, body, _) = element(outer)?;
    // Version (if it is not 1), serial number, algorithm, issuer; then the validity.
    let (first, _, behind) = element(body)?;
    let (_serial, _, rest) = if first == VERSION { element(behind)? } else { element(body)? };
    let (_algorithm, _, rest) = element(rest)?;
    let (_issuer, _, rest) = element(rest)?;
    let (tag, validity, _) = element(rest)?;
    let (_not_before, _, rest) = element(validity)?;
    let (form, text, _) = element(rest)?;
    if tag == SEQUENCE { moment(form, text) } else { None }
}

/// The first DER element (X.690, 8.1): its tag, its content, and what comes behind it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // Four bytes of length are 4 GiB.
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280, 4.1.2.5).
fn moment(form: u8, text: &[u8]) -> Option<SystemTime> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match form {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i32 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<u8>().ok();
    let date = Date::from_calendar_date(year, Month::try_from(two(0)?).ok()?, two(2)?).ok()?;
    let time = Time::from_hms(two(4)?, two(6)?, two(8)?).ok()?;
    let seconds = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    struct Pair {
        cert: PemFile,
        key: PemFile,
    }

    fn pair(params: CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        Pair {
            cert: PemFile::new("cert.pem", cert.pem().into_bytes()),
            key: PemFile::new("key.pem", key.serialize_pem().into_bytes()),
        }
    }

    fn named(name: &str) -> Pair {
        pair(CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    #[test]
    fn a_key_is_taken_with_its_own_certificate_only() {
        let (one, other) = (named("one"), named("other"));
        assert_eq!(certified_key(&one.cert, &one.key).unwrap().cert.len(), 1);
        let error = certified_key(&one.cert, &other.key).unwrap_err();
        assert_eq!(error.to_string(), "the key in key.pem does not belong to the certificate in cert.pem");
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_is_refused_and_not_quoted() {
        let Pair { cert, key } = named("one");
        let cut = |file: &PemFile, at: usize| PemFile::new("cut.pem", &file.content[..at]);
        for at in (0..cert.content.len() - 30).step_by(7) {
            assert!(cut(&cert, at).certificates().is_err(), "{at}");
        }
        for at in (0..key.content.len() - 30).step_by(7) {
            let error = cut(&key, at).private_key().unwrap_err();
            assert!(matches!(error, PemError::FindKey(_) | PemError::ReadBlock(_)), "{error:?}");
        }
        let quoted = PemFile::new("k", "-----BEGIN canary\n".as_bytes()).private_key().unwrap_err();
        assert!(!format!("{quoted} {quoted:?} {key:?}").contains("canary"));
    }

    #[test]
    fn files_that_are_mixed_up_are_told_apart() {
        let Pair { cert, key } = named("one");
        assert_eq!(key.certificates().unwrap_err().to_string(), "key.pem holds no PEM certificate");
        assert!(cert.private_key().unwrap_err().to_string().starts_with("cert.pem holds no PEM private key"));
        assert_eq!(cert.roots().unwrap().len(), 1);
        let nonsense = PemFile::new("x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".as_bytes());
        assert!(matches!(nonsense.roots(), Err(PemError::UseCertificate(..))));
        assert!(matches!(certified_key(&nonsense, &key), Err(PemError::UseCertificate(..))));
    }

    #[test]
    fn the_end_of_validity_is_read_in_both_of_its_forms() {
        for (year, month, day) in [(2027, 3, 4), (2049, 12, 31), (2050, 1, 1), (4096, 1, 1)] {
            let mut params = CertificateParams::new(vec!["one".to_owned()]).unwrap();
            params.not_after = date_time_ymd(year, month, day);
            let certificates = pair(params).cert.certificates().unwrap();
            let expected = SystemTime::from(date_time_ymd(year, month, day));
            assert_eq!(not_after(&certificates[0]), Some(expected), "{year}");
        }
    }

    #[test]
    fn no_certificate_however_damaged_panics() {
        let certificate = named("one").cert.certificates().unwrap().remove(0).to_vec();
        for at in 0..certificate.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = certificate.clone();
                damaged[at] ^= flip;
                let _any = not_after(&CertificateDer::from(damaged));
            }
            let _any = not_after(&CertificateDer::from(&certificate[..at]));
        }
    }
}
