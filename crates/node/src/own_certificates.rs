//! TLS with what a network's operator gives out: certificates as a file, or the fingerprint of one
//! in an invitation.

use std::sync::Arc;

use infera_protocol::Fingerprint;
use ring::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_platform_verifier::Verifier;

/// What a balancer's certificate is known by, beside the system's authorities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trust<'a> {
    /// PEM certificates.
    pub roots: Option<&'a [u8]>,
    pub fingerprint: Option<Fingerprint>,
}

impl<'a> Trust<'a> {
    /// The PEM certificates of a file, and no one key.
    pub(crate) fn in_file(pem: &'a [u8]) -> Self {
        Self {
            roots: Some(pem),
            fingerprint: None,
        }
    }
}

/// The network's certificate is not the one that its invitation named, and nobody vouches for it.
#[derive(Debug, thiserror::Error)]
#[error("the certificate's key is another than the invitation's")]
pub(crate) struct KeyChanged;

/// Trusts these beside the system's authorities: certificates as roots and as themselves, and
/// whatever has the fingerprint's key.
pub(crate) fn trusting(trust: Trust<'_>) -> Result<ClientConfig, String> {
    let own: Vec<_> = match trust.roots {
        None => Vec::new(),
        Some(pem) => CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?,
    };
    if trust.roots.is_some() && own.is_empty() {
        return Err("there is none in it".to_owned());
    }
    let provider = Arc::new(default_provider());
    let verifier = OwnCertificates::new(own, trust.fingerprint, Arc::clone(&provider));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// What `openssl req -x509` makes is its own authority and often names no host, both of which the
/// usual checks refuse of a server. Its owner's file names this very certificate, or an invitation
/// its key, and only the holder of the key can show it: that is more than a name or a date says.
#[derive(Debug)]
struct OwnCertificates {
    own: Vec<CertificateDer<'static>>,
    pin: Option<Fingerprint>,
    /// By these as authorities, then by the system's. The system is not asked to take further roots:
    /// not every Windows can, and a container may have none to add to.
    usual: Vec<Arc<dyn ServerCertVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl OwnCertificates {
    fn new(
        own: Vec<CertificateDer<'static>>,
        pin: Option<Fingerprint>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(own.iter().cloned());
        let by_own =
            WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let mut usual: Vec<Arc<dyn ServerCertVerifier>> = Vec::new();
        // None of them may be an authority: they are still trusted as themselves.
        if let Ok(verifier) = by_own.build() {
            usual.push(verifier);
        }
        match Verifier::new(Arc::clone(&provider)) {
            Ok(verifier) => usual.push(Arc::new(verifier)),
            Err(error) => tracing::warn!(%error, "the system has no certificates to trust"),
        }
        Self {
            own,
            pin,
            usual,
            provider,
        }
    }
}

impl ServerCertVerifier for OwnCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.own.iter().any(|own| own == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        if self.pin.is_some() && fingerprint(end_entity).ok() == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        let mut refusal = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for verifier in &self.usual {
            match verifier.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ) {
                Ok(verified) => return Ok(verified),
                Err(error) => refusal = more_telling(refusal, error),
            }
        }
        if self.pin.is_some() {
            refusal = Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(
                KeyChanged,
            ))));
        }
        Err(refusal)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Of a certificate's public key.
fn fingerprint(certificate: &CertificateDer<'_>) -> Result<Fingerprint, Error> {
    let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    let hash = digest(&SHA256, key.as_ref());
    let bytes = hash.as_ref().try_into();
    bytes
        .map(Fingerprint::from_bytes)
        .map_err(|_| Error::General("SHA-256 has another length".to_owned()))
}

/// Of two refusals the one that says more than that the issuer is unknown, or that a system has a
/// number for it.
fn more_telling(one: Error, other: Error) -> Error {
    use CertificateError::{Other, UnknownIssuer};
    match (&one, &other) {
        (_, Error::InvalidCertificate(UnknownIssuer | Other(_))) => one,
        (Error::InvalidCertificate(UnknownIssuer), _) => other,
        _ => one,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    const HOST: &str = "balancer.example";

    struct Authority {
        certificate: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    /// As `openssl req -x509` makes it: it names no host.
    fn authority(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority {
            certificate: params.self_signed(&key).unwrap().into(),
            issuer: Issuer::new(params, key),
        }
    }

    fn issued_for(host: &str, authority: &Authority) -> CertificateDer<'static> {
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &authority.issuer).unwrap().into()
    }

    fn verify(own: &[&CertificateDer<'static>], shown: &CertificateDer<'_>) -> Result<(), Error> {
        let own = own.iter().map(|&one| one.clone()).collect();
        verify_with(own, None, shown)
    }

    fn verify_with(
        own: Vec<CertificateDer<'static>>,
        pin: Option<Fingerprint>,
        shown: &CertificateDer<'_>,
    ) -> Result<(), Error> {
        OwnCertificates::new(own, pin, Arc::new(default_provider()))
            .verify_server_cert(
                shown,
                &[],
                &ServerName::try_from(HOST).unwrap(),
                &[],
                UnixTime::now(),
            )
            .map(|_| ())
    }

    #[test]
    fn what_an_own_authority_issued_is_trusted_for_its_host() {
        let (own, other) = (authority("own"), authority("other"));
        // A file may hold several, and which one issued it is for the file to know.
        let file = [&other.certificate, &own.certificate];
        verify(&file, &issued_for(HOST, &own)).unwrap();
        let refusal = verify(&file, &issued_for("other.example", &own)).unwrap_err();
        assert!(
            matches!(
                refusal,
                Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })
            ),
            "{refusal}"
        );
    }

    #[test]
    fn a_certificate_of_the_file_is_trusted_as_itself() {
        let own = authority("own");
        verify(&[&own.certificate], &own.certificate).unwrap();
        // One that is no authority, too.
        let leaf = issued_for("other.example", &own);
        verify(&[&leaf], &leaf).unwrap();
    }

    #[test]
    fn a_strangers_certificate_is_refused() {
        let (own, stranger) = (authority("own"), authority("stranger"));
        let refusal = verify(&[&own.certificate], &issued_for(HOST, &stranger)).unwrap_err();
        assert!(
            matches!(
                refusal,
                Error::InvalidCertificate(CertificateError::UnknownIssuer)
            ),
            "{refusal}"
        );
        verify(&[&own.certificate], &stranger.certificate).unwrap_err();
    }

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        for pem in [
            "",
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        ] {
            assert!(trusting(Trust::in_file(pem.as_bytes())).is_err());
        }
    }

    /// As a network makes it for itself.
    fn self_signed(host: &str, key: &KeyPair, year: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(year, 1, 1);
        params.not_after = rcgen::date_time_ymd(year + 1, 1, 1);
        params.self_signed(key).unwrap().into()
    }

    fn of(key: &KeyPair) -> Fingerprint {
        let hash = digest(&SHA256, &rcgen::PublicKeyData::subject_public_key_info(key));
        Fingerprint::from_bytes(hash.as_ref().try_into().unwrap())
    }

    #[test]
    fn a_pinned_key_counts_for_more_than_name_and_date() {
        let key = KeyPair::generate().unwrap();
        for (host, year) in [(HOST, 2020), ("other.example", 2050)] {
            let shown = self_signed(host, &key, year);
            assert_eq!(fingerprint(&shown), Ok(of(&key)));
            verify_with(Vec::new(), Some(of(&key)), &shown).unwrap();
            verify_with(Vec::new(), None, &shown).unwrap_err();
        }
    }

    #[test]
    fn another_key_is_refused_by_its_own_words_unless_an_authority_vouches_for_it() {
        let (pinned, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let pin = Some(of(&pinned));
        let refusal = verify_with(Vec::new(), pin, &self_signed(HOST, &other, 2020)).unwrap_err();
        let Error::InvalidCertificate(CertificateError::Other(OtherError(why))) = &refusal else {
            panic!("{refusal}");
        };
        assert!(why.is::<KeyChanged>(), "{refusal}");
        let authority = authority("trusted");
        let own = vec![authority.certificate.clone()];
        verify_with(own, pin, &issued_for(HOST, &authority)).unwrap();
        // What is no certificate at all.
        verify_with(Vec::new(), pin, &CertificateDer::from(vec![1, 2, 3])).unwrap_err();
    }
}
