//! TLS with a network's own certificates, which its operator gives out as a file.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_platform_verifier::Verifier;

/// Trusts these PEM certificates beside the system's, as roots and as themselves.
pub(crate) fn trusting(pem: &[u8]) -> Result<ClientConfig, String> {
    let own: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if own.is_empty() {
        return Err("there is none in it".to_owned());
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = OwnCertificates::new(own, Arc::clone(&provider));
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
/// usual checks refuse of a server. Its owner's file names this very certificate, and only the
/// holder of its key can show it: that is more than a name says.
#[derive(Debug)]
struct OwnCertificates {
    own: Vec<CertificateDer<'static>>,
    /// By these as authorities, then by the system's. The system is not asked to take further roots:
    /// not every Windows can, and a container may have none to add to.
    usual: Vec<Arc<dyn ServerCertVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl OwnCertificates {
    fn new(own: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Self {
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
        OwnCertificates::new(own, Arc::new(ring::default_provider()))
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
        assert!(trusting(b"").is_err());
        assert!(trusting(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").is_err());
    }
}
