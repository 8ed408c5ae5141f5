//! The balancer's own certificate: made once, signed by itself, and known by its key's fingerprint.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use infera_private_files as private_files;
use infera_protocol::Fingerprint;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use webpki::EndEntityCert;

use crate::server::Tls;

/// Names of the files inside the data folder.
pub(crate) const CERTIFICATE_NAME: &str = "certificate.pem";
pub(crate) const KEY_NAME: &str = "certificate-key.pem";
/// Whatever the clocks say of the machine that makes it and of those that read it: nodes know it by
/// its key.
const YEARS: (i32, i32) = (2020, 2100);

#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("The file {} cannot be used: {source}. Check who may read and write it", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("The certificate in {} cannot be read. It has to be a PEM file that begins with the server's own certificate; set `tls_cert` to it", .0.display())]
    Unreadable(PathBuf),
    #[error("The certificate could not be made: {0}. Remove {file}, or set `tls_cert` and `tls_key`", file = .1.display())]
    Make(#[source] rcgen::Error, PathBuf),
    #[error("The key {} of the network's certificate is missing. Put it back from a copy; or remove {}, and a new pair is made, which those who joined by an invitation will not accept before they are invited again", key.display(), certificate.display())]
    KeyLost { key: PathBuf, certificate: PathBuf },
}

/// Whether a certificate is the one that [`own`] makes.
pub(crate) fn is_own(folder: &Path, tls: &Tls) -> bool {
    tls.certificate == folder.join(CERTIFICATE_NAME)
}

/// The certificate in `folder`, made for these names and addresses if there is none. A key that is
/// there is kept, so that a certificate which was removed to have it made anew is the same to nodes.
pub(crate) fn own(folder: &Path, names: &[String]) -> Result<Tls, CertificateError> {
    let tls = Tls {
        certificate: folder.join(CERTIFICATE_NAME),
        key: folder.join(KEY_NAME),
    };
    if tls.certificate.exists() && tls.key.exists() {
        return Ok(tls);
    }
    let failed = |error| CertificateError::Make(error, tls.key.clone());
    let key = match std::fs::read_to_string(&tls.key) {
        Ok(text) => KeyPair::from_pem(&text).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if tls.certificate.exists() {
                return Err(CertificateError::KeyLost {
                    key: tls.key,
                    certificate: tls.certificate,
                });
            }
            let key = KeyPair::generate().map_err(failed)?;
            write(&tls.key, &key.serialize_pem(), true)?;
            key
        }
        Err(source) => return Err(unusable(&tls.key, source)),
    };
    let mut parameters = CertificateParams::new(names).map_err(failed)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, "Infera balancer");
    parameters.not_before = rcgen::date_time_ymd(YEARS.0, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(YEARS.1, 1, 1);
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    write(&tls.certificate, &certificate.pem(), false)?;
    Ok(tls)
}

/// Of the first certificate in a PEM file.
pub(crate) fn fingerprint(file: &Path) -> Result<Fingerprint, CertificateError> {
    let pem = std::fs::read(file).map_err(|source| unusable(file, source))?;
    let unreadable = || CertificateError::Unreadable(file.to_owned());
    let certificate = CertificateDer::from_pem_slice(&pem).map_err(|_| unreadable())?;
    let certificate = EndEntityCert::try_from(&certificate).map_err(|_| unreadable())?;
    let key = certificate.subject_public_key_info();
    let hash = ring::digest::digest(&ring::digest::SHA256, &key);
    let hash = hash.as_ref().try_into().map_err(|_| unreadable())?;
    Ok(Fingerprint::from_bytes(hash))
}

fn write(file: &Path, text: &str, private: bool) -> Result<(), CertificateError> {
    let written = if private {
        private_files::create(file).and_then(|mut file| file.write_all(text.as_bytes()))
    } else {
        std::fs::write(file, text)
    };
    written.map_err(|source| unusable(file, source))
}

fn unusable(file: &Path, source: io::Error) -> CertificateError {
    CertificateError::File {
        path: file.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["192.0.2.1", "fd00::1", "localhost"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn it_is_made_once_and_made_anew_with_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let tls = own(folder.path(), &names()).unwrap();
        let first = fingerprint(&tls.certificate).unwrap();
        let text = std::fs::read(&tls.certificate).unwrap();
        own(folder.path(), &names()).unwrap();
        assert_eq!(std::fs::read(&tls.certificate).unwrap(), text);
        let key = std::fs::File::open(&tls.key).unwrap();
        assert!(!private_files::is_open_to_others(&key).unwrap());
        std::fs::remove_file(&tls.certificate).unwrap();
        own(folder.path(), &["192.0.2.2".to_owned()]).unwrap();
        assert_ne!(std::fs::read(&tls.certificate).unwrap(), text);
        assert_eq!(fingerprint(&tls.certificate).unwrap(), first);
        // The key's own bytes, as whoever pins it hashes them.
        let key = KeyPair::from_pem(&std::fs::read_to_string(&tls.key).unwrap()).unwrap();
        let info = rcgen::PublicKeyData::subject_public_key_info(&key);
        let hash = ring::digest::digest(&ring::digest::SHA256, &info);
        assert_eq!(first.as_bytes(), hash.as_ref());
    }

    #[test]
    fn a_key_that_was_lost_is_not_replaced_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let tls = own(folder.path(), &names()).unwrap();
        std::fs::remove_file(&tls.key).unwrap();
        let fault = own(folder.path(), &names()).unwrap_err().to_string();
        assert!(fault.contains(KEY_NAME), "{fault}");
        assert!(!tls.key.exists());
        std::fs::remove_file(&tls.certificate).unwrap();
        own(folder.path(), &names()).unwrap();
        assert!(tls.key.exists());
    }

    #[test]
    fn what_is_no_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("it.pem");
        assert!(
            fingerprint(&file)
                .unwrap_err()
                .to_string()
                .contains("it.pem")
        );
        std::fs::write(&file, "no").unwrap();
        let fault = fingerprint(&file).unwrap_err().to_string();
        assert!(fault.contains("tls_cert"), "{fault}");
        std::fs::write(folder.path().join(KEY_NAME), "no").unwrap();
        let fault = own(folder.path(), &names()).unwrap_err().to_string();
        assert!(fault.contains(KEY_NAME), "{fault}");
    }
}
