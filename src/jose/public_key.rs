//! Public keys that passed every check, before anything was verified with them (RFC 8725 sections 3.4, 3.5).

use ring::agreement::{self, EphemeralPrivateKey};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use serde_json::json;

use super::json::Object;
use super::{base64url, roca};

/// An elliptic curve that `ring` verifies signatures on; P-521 is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
}

impl Curve {
    /// The curve with this `crv` (RFC 7518 section 6.2.1.1), if it is one of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "P-256" => Some(Self::P256),
            "P-384" => Some(Self::P384),
            _ => None,
        }
    }

    /// Its `crv`.
    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        }
    }

    /// Bytes of one coordinate.
    pub fn coordinate_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

/// A public key is not one to verify with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Not an uncompressed point of the curve (SEC 1 section 2.3.4).
    #[error("the EC key is not a point of its curve")]
    Point,
    /// An RSA modulus is odd, of 2048 to 8192 bits, without leading zero bytes (RFC 7518 section 3.3).
    #[error("the RSA modulus is not an odd number of 2048 to 8192 bits")]
    Modulus,
    /// An RSA exponent is odd, at least 3, of at most 4 bytes, without leading zero bytes.
    #[error("the RSA exponent is not an odd number of 3 to 4294967295")]
    Exponent,
    /// Made by the broken generator of CVE-2017-15361.
    #[error("the RSA key is one that CVE-2017-15361 (ROCA) breaks: replace it")]
    Roca,
}

/// A public key that may verify signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Parts);

#[derive(Clone, PartialEq, Eq)]
enum Parts {
    Ec { curve: Curve, point: Vec<u8> },
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
}

impl PublicKey {
    /// An EC key from its uncompressed point, `04 ‖ x ‖ y`.
    ///
    /// # Errors
    /// [`PublicKeyError::Point`] if it has another form or does not lie on the curve.
    pub fn ec(curve: Curve, point: &[u8]) -> Result<Self, PublicKeyError> {
        let algorithm = match curve {
            Curve::P256 => &agreement::ECDH_P256,
            Curve::P384 => &agreement::ECDH_P384,
        };
        // ring checks points when it uses them; the cheapest use that can only fail for the point is an agreement.
        let peer = agreement::UnparsedPublicKey::new(algorithm, point);
        EphemeralPrivateKey::generate(algorithm, &SystemRandom::new())
            .and_then(|own| agreement::agree_ephemeral(own, &peer, |_| ()))
            .map_err(|_| PublicKeyError::Point)?;
        Ok(Self(Parts::Ec { curve, point: point.to_vec() }))
    }

    /// An RSA key from its modulus and exponent, big-endian.
    ///
    /// # Errors
    /// [`PublicKeyError`] if either is too small, too large or even, or the modulus bears the ROCA fingerprint.
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, PublicKeyError> {
        if !(2048..=8192).contains(&bits(modulus)) || !is_odd(modulus) {
            return Err(PublicKeyError::Modulus);
        }
        if !(2..=32).contains(&bits(exponent)) || !is_odd(exponent) {
            return Err(PublicKeyError::Exponent);
        }
        if roca::is_roca(modulus) {
            return Err(PublicKeyError::Roca);
        }
        Ok(Self(Parts::Rsa { modulus: modulus.to_vec(), exponent: exponent.to_vec() }))
    }

    /// The curve, of an EC key.
    pub fn curve(&self) -> Option<Curve> {
        match self.0 {
            Parts::Ec { curve, .. } => Some(curve),
            Parts::Rsa { .. } => None,
        }
    }

    /// The uncompressed point, of an EC key.
    pub(super) fn point(&self) -> Option<&[u8]> {
        match &self.0 {
            Parts::Ec { point, .. } => Some(point),
            Parts::Rsa { .. } => None,
        }
    }

    /// Modulus and exponent, of an RSA key.
    pub(super) fn components(&self) -> Option<ring::signature::RsaPublicKeyComponents<&[u8]>> {
        match &self.0 {
            Parts::Rsa { modulus, exponent } => {
                Some(ring::signature::RsaPublicKeyComponents { n: modulus, e: exponent })
            }
            Parts::Ec { .. } => None,
        }
    }

    /// The members that a JWK must have for such a key, and no others (RFC 7638 section 3.2).
    pub fn required_members(&self) -> Object {
        let members = match &self.0 {
            Parts::Ec { curve, point } => {
                let (x, y) = point.get(1..).unwrap_or_default().split_at(curve.coordinate_bytes());
                [
                    ("crv", curve.name().to_owned()),
                    ("kty", "EC".to_owned()),
                    ("x", base64url::encode(x)),
                    ("y", base64url::encode(y)),
                ]
                .to_vec()
            }
            Parts::Rsa { modulus, exponent } => [
                ("e", base64url::encode(exponent)),
                ("kty", "RSA".to_owned()),
                ("n", base64url::encode(modulus)),
            ]
            .to_vec(),
        };
        members.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
    }

    /// The key's thumbprint (RFC 7638): the `jkt` of a confirmation, the `kid` of our own keys.
    pub fn thumbprint(&self) -> [u8; 32] {
        // INVARIANT (thumbprint input): `required_members` are in the order of their names, without whitespace.
        sha256(serde_json::Value::Object(self.required_members()).to_string().as_bytes())
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Parts::Ec { curve, .. } => write!(f, "PublicKey({})", curve.name()),
            Parts::Rsa { modulus, .. } => write!(f, "PublicKey(RSA {})", bits(modulus)),
        }
    }
}

/// SHA-256 of a certificate's DER: the `x5t#S256` of a confirmation (RFC 8705 section 3.1).
pub fn certificate_thumbprint(der: &[u8]) -> [u8; 32] {
    sha256(der)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// Length of a big-endian number in bits; 0 if it has a leading zero byte.
fn bits(number: &[u8]) -> usize {
    match number.first() {
        Some(0) | None => 0,
        Some(first) => {
            let unused = usize::try_from(first.leading_zeros()).unwrap_or_default();
            number.len() * 8 - unused
        }
    }
}

fn is_odd(number: &[u8]) -> bool {
    number.last().is_some_and(|byte| byte % 2 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638_section_3_1() {
        let modulus = base64url::decode(concat!(
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECP",
            "ebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY",
            "368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0f",
            "M4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
        ))
        .unwrap();
        let key = PublicKey::rsa(&modulus, &[1, 0, 1]).unwrap();
        assert_eq!(
            base64url::encode(key.thumbprint()),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
    }

    #[test]
    fn points_off_the_curve_or_in_another_form_are_refused() {
        // The generator of P-256 (SP 800-186, section 3.2.1.3).
        let mut point = vec![4];
        for coordinate in [
            "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY",
            "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU",
        ] {
            point.extend(base64url::decode(coordinate).unwrap());
        }
        assert!(PublicKey::ec(Curve::P256, &point).is_ok());
        assert_eq!(PublicKey::ec(Curve::P384, &point), Err(PublicKeyError::Point));
        let mut moved = point.clone();
        moved[64] ^= 1;
        assert_eq!(PublicKey::ec(Curve::P256, &moved), Err(PublicKeyError::Point));
        for wrong in [&[][..], &point[1..], &point[..64], &[&[2], &point[1..33]].concat(), &[0]] {
            assert_eq!(PublicKey::ec(Curve::P256, wrong), Err(PublicKeyError::Point));
        }
    }

    #[test]
    fn weak_rsa_keys_are_refused() {
        let modulus = |bytes: usize, last: u8| {
            let mut number = vec![0xff; bytes];
            number[bytes - 1] = last;
            number
        };
        let strong = modulus(256, 0xfd);
        assert!(PublicKey::rsa(&strong, &[1, 0, 1]).is_ok());
        for weak in [vec![], modulus(255, 0xfd), modulus(1025, 0xfd), modulus(256, 0xfe)] {
            assert_eq!(PublicKey::rsa(&weak, &[1, 0, 1]), Err(PublicKeyError::Modulus));
        }
        let with_zero = [&[0], &strong[..]].concat();
        assert_eq!(PublicKey::rsa(&with_zero, &[1, 0, 1]), Err(PublicKeyError::Modulus));
        for exponent in [&[][..], &[0], &[1], &[2], &[1, 0, 0], &[0, 3], &[1, 0, 0, 0, 1]] {
            assert_eq!(PublicKey::rsa(&strong, exponent), Err(PublicKeyError::Exponent));
        }
    }
}
