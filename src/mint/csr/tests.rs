//! Requests that prove a key, and requests that do not.

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::testing::ca::csr;

/// An RSA request of another tool, by name.
fn rsa(name: &str) -> Vec<u8> {
    use base64::Engine as _;
    let text = match name {
        "2048" => include_str!("rsa-2048.csr.b64"),
        "sha1" => include_str!("rsa-2048-sha1.csr.b64"),
        "e3" => include_str!("rsa-2048-e3.csr.b64"),
        _ => include_str!("rsa-1024.csr.b64"),
    };
    let text: String = text.split_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

fn request(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

#[test]
fn a_key_is_proved_by_its_own_signature() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let proved = prove(&request(&key)).unwrap();
        assert_eq!(proved.spki_der(), key.subject_public_key_info());
        // Whatever else is asked for makes no difference.
        assert_eq!(prove(csr(&key).der()), Ok(proved));
    }
    assert!(prove(&rsa("2048")).is_ok());
}

#[test]
fn class_08_a_request_over_somebody_elses_key_is_refused() {
    let (ours, theirs) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut forged = request(&ours);
    let at = forged.windows(65).position(|bytes| bytes == ours.public_key_raw()).unwrap();
    forged[at..at + 65].copy_from_slice(theirs.public_key_raw());
    assert_eq!(prove(&forged), Err(CsrError::Signature));
}

#[test]
fn every_changed_byte_is_refused_or_changes_nothing_that_counts() {
    let key = KeyPair::generate().unwrap();
    let good = request(&key);
    let proved = prove(&good);
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        let outcome = prove(&changed);
        assert!(outcome.is_err() || outcome == proved, "byte {at}");
    }
}

#[test]
fn weak_keys_other_kinds_and_sha_1_are_refused() {
    assert_eq!(prove(&rsa("1024")), Err(CsrError::Key));
    assert_eq!(prove(&rsa("e3")), Err(CsrError::Key));
    assert_eq!(prove(&rsa("sha1")), Err(CsrError::SignatureAlgorithm));
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    assert_eq!(prove(&request(&ed25519)), Err(CsrError::Key));
}

#[test]
fn class_15_what_is_no_request_is_refused() {
    let key = KeyPair::generate().unwrap();
    let good = request(&key);
    for cut in 0..good.len() {
        assert_eq!(prove(&good[..cut]), Err(CsrError::Malformed), "cut at {cut}");
    }
    assert_eq!(prove(&[good.as_slice(), &[0]].concat()), Err(CsrError::Malformed));
    assert_eq!(prove(&vec![0x30; MAX_CSR_BYTES + 1]), Err(CsrError::TooLarge));
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    assert_eq!(prove(certificate.der()), Err(CsrError::Malformed));
}

#[test]
fn a_refusal_is_a_proof_that_does_not_hold() {
    let refusal = Refusal::from(CsrError::Signature);
    assert_eq!(refusal.reason(), "PROOF_INVALID");
}
