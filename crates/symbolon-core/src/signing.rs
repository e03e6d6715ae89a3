//! Signing JWTs, for the token service that mints its own.

use std::fmt;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::algorithm::{Algorithm, RSA_OCTETS};
use crate::base64url;
use crate::crypto::{self, PrivateKey, PublicMembers};
use crate::jwt::UnverifiedJwt;

/// A private key of one algorithm. No `Debug` prints it.
pub struct SigningKey {
    algorithm: Algorithm,
    key: PrivateKey,
    kid: String,
    public: Value,
}

/// A key that cannot be made, read or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningError {
    /// Not one of [`SigningKey::ALGORITHMS`].
    Algorithm,
    /// The octets are no PKCS #8 key of that algorithm, or one of a size that tokens cannot have.
    Key,
    /// The library refused to sign.
    Signing,
}

impl SigningKey {
    /// The algorithms that a token service mints with.
    pub const ALGORITHMS: [Algorithm; 3] = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256];

    /// A fresh key; RSA keys have 2048 bits.
    pub fn generate(algorithm: Algorithm) -> Result<Self, SigningError> {
        Self::new(
            algorithm,
            PrivateKey::generate(algorithm).map_err(|_| SigningError::Algorithm)?,
        )
    }

    /// The key of a PKCS #8 document.
    pub fn from_pkcs8(algorithm: Algorithm, der: &[u8]) -> Result<Self, SigningError> {
        Self::new(
            algorithm,
            PrivateKey::from_pkcs8(algorithm, der).map_err(|_| SigningError::Key)?,
        )
    }

    fn new(algorithm: Algorithm, key: PrivateKey) -> Result<Self, SigningError> {
        let members = key.public().map_err(|_| SigningError::Key)?;
        let (mut public, kid) = describe(&members)?;
        public["alg"] = algorithm.name().into();
        public["use"] = "sig".into();
        public["kid"] = kid.as_str().into();
        Ok(Self {
            algorithm,
            key,
            kid,
            public,
        })
    }

    /// The PKCS #8 document, for the file it is kept in.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, SigningError> {
        self.key.to_pkcs8().map_err(|_| SigningError::Key)
    }

    /// The algorithm it signs with.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its name: the thumbprint of its public part (RFC 7638).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Its public part, as a JWK Set lists it.
    pub fn public_jwk(&self) -> &Value {
        &self.public
    }

    /// Signs `claims` as a JWT of that `typ`.
    pub fn sign(&self, typ: &str, claims: &Value) -> Result<UnverifiedJwt, SigningError> {
        let header = json!({ "alg": self.algorithm.name(), "typ": typ, "kid": self.kid });
        self.sign_parts(&header, claims)
    }

    pub(crate) fn sign_parts(&self, header: &Value, claims: &Value) -> Result<UnverifiedJwt, SigningError> {
        let encode = |value: &Value| base64url::encode(value.to_string().as_bytes());
        let mut text = Zeroizing::new(format!("{}.{}", encode(header), encode(claims)));
        let signature = self
            .key
            .sign(text.as_bytes())
            .map_err(|_| SigningError::Signing)?;
        text.push('.');
        text.push_str(&base64url::encode(&signature));
        UnverifiedJwt::parse(text).map_err(|_| SigningError::Signing)
    }
}

/// The JWK of a public key and its thumbprint: the hash of the members that make the key, in this order, without white
/// space (RFC 7638 §3.2).
fn describe(members: &PublicMembers) -> Result<(Value, String), SigningError> {
    let encode = |octets: &[u8]| base64url::encode(octets);
    let (jwk, hashed) = match members {
        PublicMembers::P256 { x, y } => {
            let (x, y) = (encode(x), encode(y));
            let hashed = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
            (json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y }), hashed)
        }
        PublicMembers::Ed25519 { x } => {
            let x = encode(x);
            let hashed = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
            (json!({ "kty": "OKP", "crv": "Ed25519", "x": x }), hashed)
        }
        // Tokens of another size would be signed, and then be no opaque tokens.
        PublicMembers::Rsa { n, .. } if !RSA_OCTETS.contains(&n.len()) => {
            return Err(SigningError::Key);
        }
        PublicMembers::Rsa { n, e } => {
            let (n, e) = (encode(n), encode(e));
            let hashed = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
            (json!({ "kty": "RSA", "n": n, "e": e }), hashed)
        }
    };
    Ok((jwk, encode(&crypto::sha256(hashed.as_bytes()))))
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, ..)", self.algorithm)
    }
}

impl fmt::Display for SigningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Algorithm => "tokens are minted with ES256, EdDSA or RS256",
            Self::Key => "not a private key of that algorithm",
            Self::Signing => "signing failed",
        })
    }
}

impl std::error::Error for SigningError {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::{IssuerPolicy, JwkSet, Lineage, Policy, Profile, Provenance, TokenKind, UnixTime};

    #[test]
    fn what_is_signed_verifies_with_the_published_key() {
        for algorithm in SigningKey::ALGORITHMS {
            let key = SigningKey::generate(algorithm).unwrap();
            let jwks = json!({ "keys": [key.public_jwk()] }).to_string();
            let keys = JwkSet::parse(jwks.as_bytes(), &Algorithm::ALL, Provenance::Fetched);
            let policy = Policy::new([IssuerPolicy {
                issuer: "https://id.example.com".into(),
                profile: Profile::RFC9068,
                algorithms: vec![algorithm],
                tokens: TokenKind::Salted,
                max_lifetime: Duration::from_secs(600),
                keys: Some(Arc::new(keys.unwrap())),
            }]);
            let claims = json!({
                "iss": "https://id.example.com", "aud": "api", "sub": "app", "client_id": "app", "jti": "1",
                "iat": 1_800_000_000, "exp": 1_800_000_600,
            });
            let jwt = key.sign("at+jwt", &claims).unwrap();
            let now = UnixTime::from_secs(1_800_000_000);
            let verified = policy.verify_issued(jwt, now).unwrap();
            assert!(verified.split(Lineage::default()).is_ok(), "{algorithm}");
        }
    }

    #[test]
    fn the_header_says_algorithm_type_and_key() {
        let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
        let jwt = key.sign("at+jwt", &json!({})).unwrap();
        let header = base64url::decode(jwt.header()).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(
            header,
            json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": key.kid() })
        );
    }

    // TS-03
    #[test]
    fn the_kid_is_the_thumbprint_of_rfc_7638() {
        // RFC 7638 §3.1
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKR\
                 XjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAta\
                 Sqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksI\
                 NHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let rsa = PublicMembers::Rsa {
            n: base64url::decode(n).unwrap(),
            e: vec![1, 0, 1],
        };
        assert_eq!(thumbprint(&rsa), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        // RFC 8037 §A.3
        let ed25519 = PublicMembers::Ed25519 {
            x: base64url::decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap(),
        };
        assert_eq!(
            thumbprint(&ed25519),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
        // No document has one of this curve: the members in their order, from what is published.
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let jwk = key.public_jwk();
        let hashed = format!(
            r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#,
            jwk["x"], jwk["y"]
        );
        assert_eq!(key.kid(), base64url::encode(&crypto::sha256(hashed.as_bytes())));
        assert_eq!(jwk["kid"], key.kid());
    }

    // TS-07: what repeats tells of its nonce; EdDSA and RSA signatures are functions of key and content.
    #[test]
    fn an_ecdsa_signature_comes_once() {
        for algorithm in SigningKey::ALGORITHMS {
            let key = SigningKey::generate(algorithm).unwrap();
            let sign = || key.sign("at+jwt", &json!({})).unwrap();
            let repeats = sign().expose() == sign().expose();
            assert_eq!(repeats, algorithm != Algorithm::Es256, "{algorithm}");
        }
    }

    #[test]
    fn a_published_key_has_no_private_member() {
        for algorithm in SigningKey::ALGORITHMS {
            let key = SigningKey::generate(algorithm).unwrap();
            let members: Vec<_> = key.public_jwk().as_object().unwrap().keys().cloned().collect();
            let public = ["alg", "crv", "e", "kid", "kty", "n", "use", "x", "y"];
            assert!(
                members.iter().all(|member| public.contains(&member.as_str())),
                "{members:?}"
            );
        }
    }

    #[test]
    fn a_key_reads_back_what_it_wrote_and_nothing_else() {
        for algorithm in SigningKey::ALGORITHMS {
            let key = SigningKey::generate(algorithm).unwrap();
            let der = key.to_pkcs8().unwrap();
            let again = SigningKey::from_pkcs8(algorithm, &der).unwrap();
            assert_eq!(again.public_jwk(), key.public_jwk());
            for other in Algorithm::ALL.into_iter().filter(|other| *other != algorithm) {
                assert_eq!(
                    SigningKey::from_pkcs8(other, &der).unwrap_err(),
                    SigningError::Key
                );
            }
            let cut = &der[..der.len() - 1];
            assert_eq!(
                SigningKey::from_pkcs8(algorithm, cut).unwrap_err(),
                SigningError::Key
            );
        }
        for other in [Algorithm::Hs256, Algorithm::Ps256, Algorithm::Es384] {
            assert_eq!(SigningKey::generate(other).unwrap_err(), SigningError::Algorithm);
        }
    }

    // GW-02
    #[test]
    fn an_rsa_key_whose_signatures_are_no_opaque_tokens_is_refused() {
        let rsa = |octets| PublicMembers::Rsa {
            n: vec![0x81; octets],
            e: vec![1, 0, 1],
        };
        for octets in [128, 255, 257, 320, 2048] {
            assert_eq!(describe(&rsa(octets)).unwrap_err(), SigningError::Key);
        }
        for octets in RSA_OCTETS {
            assert!(describe(&rsa(*octets)).is_ok());
        }
    }

    // OP-01
    #[test]
    fn debug_prints_the_algorithm_alone() {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        assert_eq!(format!("{key:?}"), "SigningKey(ES256, ..)");
    }

    fn thumbprint(members: &PublicMembers) -> String {
        describe(members).unwrap().1
    }
}
