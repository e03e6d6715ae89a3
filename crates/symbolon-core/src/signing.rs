//! Signing JWTs, for the token service that mints its own.

use std::fmt;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::algorithm::Algorithm;
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
    /// The octets are no PKCS #8 key of that algorithm.
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
        let encode = |octets: &[u8]| base64url::encode(octets);
        // RFC 7638 §3.2: these members, in this order, without white space.
        let (mut public, thumbprint) = match key.public().map_err(|_| SigningError::Key)? {
            PublicMembers::P256 { x, y } => {
                let (x, y) = (encode(&x), encode(&y));
                let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
                (json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y }), thumbprint)
            }
            PublicMembers::Ed25519 { x } => {
                let x = encode(&x);
                let thumbprint = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
                (json!({ "kty": "OKP", "crv": "Ed25519", "x": x }), thumbprint)
            }
            PublicMembers::Rsa { n, e } => {
                let (n, e) = (encode(&n), encode(&e));
                let thumbprint = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
                (json!({ "kty": "RSA", "n": n, "e": e }), thumbprint)
            }
        };
        let kid = encode(&crypto::sha256(thumbprint.as_bytes()));
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
