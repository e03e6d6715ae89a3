//! Obtains a JWT by signing one here (RFC 9068).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use symbolon_core::{
    Algorithm, SigningError, SigningKey, UnixTime, UnverifiedJwt, base64url, json as strict,
};
use url::Url;
use zeroize::Zeroizing;

use super::Client;
use crate::private_file;

mod signing_keys;

pub use signing_keys::{PUBLISHED_BEFORE_USE, SigningKeys, make_next_key, signing_algorithm};

/// A token service that signs its own JWTs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its issuer identifier, under which its endpoints stand.
    pub issuer: Url,
    /// How long its tokens live.
    pub lifetime: Duration,
    /// Who may ask for tokens.
    pub clients: Vec<Client>,
}

/// Signs access tokens.
pub struct Mint {
    keys: Arc<SigningKeys>,
    issuer: String,
    lifetime: Duration,
}

/// What a client asked for and may have.
pub struct Grant<'a> {
    /// To whom.
    pub client: &'a Client,
    /// For which resource.
    pub audience: &'a str,
    /// What it allows, as the `scope` value.
    pub scope: &'a str,
}

/// A signing key that cannot be had from its file.
#[derive(Debug)]
pub struct KeyFileError {
    path: PathBuf,
    reason: String,
}

impl Mint {
    /// Signs as `issuer`, tokens that live for `lifetime`.
    pub fn new(keys: Arc<SigningKeys>, issuer: String, lifetime: Duration) -> Self {
        Self {
            keys,
            issuer,
            lifetime,
        }
    }

    /// Signs a token. `sub` is the client itself: this token service has no users whose names it could take (TS-06).
    pub fn sign(&self, grant: &Grant<'_>, now: UnixTime) -> Result<UnverifiedJwt, SigningError> {
        let mut claims = json!({
            "iss": self.issuer,
            "aud": grant.audience,
            "sub": grant.client.id,
            "client_id": grant.client.id,
            "iat": now.as_secs(),
            "exp": now.plus(self.lifetime).as_secs(),
            "jti": base64url::encode(&symbolon_core::random::<16>()),
        });
        if !grant.scope.is_empty() {
            claims["scope"] = grant.scope.into();
        }
        let key = self.keys.current().ok_or(SigningError::Key)?;
        key.sign("at+jwt", &claims)
    }

    /// How long its tokens live.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Its issuer identifier.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The JWK Set that its tokens are verified with.
    pub fn jwk_set(&self) -> serde_json::Value {
        self.keys.published()
    }
}

/// The signing key in the data folder; made on first start, readable by its owner alone.
pub fn key_in(data: &Path, algorithm: Algorithm) -> Result<SigningKey, KeyFileError> {
    let path = key_file(data, algorithm);
    match private_file::read(&path) {
        Ok(text) => read_key(&path, &text, algorithm),
        Err(error) if error.is_missing() => generate_key(data, algorithm),
        Err(error) => Err(KeyFileError::new(&path, error)),
    }
}

/// Makes the first signing key in the data folder. Does not replace one.
pub fn generate_key(data: &Path, algorithm: Algorithm) -> Result<SigningKey, KeyFileError> {
    let path = key_file(data, algorithm);
    // Else it would sign before anybody has seen it (TS-14).
    if let Some(other) = signing_algorithm(data)?.filter(|other| *other != algorithm) {
        let reason = format!(
            "a key for {other} is there already, which it would have to follow: make it by a rotation"
        );
        return Err(KeyFileError::new(&path, reason));
    }
    let key = SigningKey::generate(algorithm).map_err(|error| KeyFileError::new(&path, error))?;
    let text = key_text(&key).map_err(|error| KeyFileError::new(&path, error))?;
    private_file::write(&path, text.as_bytes()).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::new(&path, "it is there already, and is not replaced"),
        _ => KeyFileError::new(&path, error),
    })?;
    Ok(key)
}

/// A key as its file has it.
fn key_text(key: &SigningKey) -> Result<Zeroizing<String>, SigningError> {
    let encoded = Zeroizing::new(base64url::encode(&key.to_pkcs8()?));
    // Written by hand, since a JSON value would leave copies of the key in memory; nothing in it needs an escape.
    Ok(Zeroizing::new(format!(
        r#"{{"alg":"{}","kid":"{}","pkcs8":"{}"}}"#,
        key.algorithm(),
        key.kid(),
        *encoded
    )))
}

/// Where the data folder keeps the first key of that algorithm.
pub fn key_file(data: &Path, algorithm: Algorithm) -> PathBuf {
    data.join(format!("signing-key-{algorithm}.json"))
}

fn read_key(path: &Path, text: &str, algorithm: Algorithm) -> Result<SigningKey, KeyFileError> {
    let wrong = |reason: &dyn fmt::Display| KeyFileError::new(path, reason);
    let members = strict::parse_object(text.as_bytes()).map_err(|error| wrong(&error))?;
    let member = |name: &str| members.get(name).and_then(strict::Value::as_str);
    if member("alg") != Some(algorithm.name()) {
        return Err(wrong(&"its alg is another"));
    }
    let der = member("pkcs8")
        .and_then(base64url::decode)
        .map(Zeroizing::new)
        .ok_or_else(|| wrong(&"no pkcs8 in it"))?;
    SigningKey::from_pkcs8(algorithm, &der).map_err(|error| wrong(&error))
}

impl KeyFileError {
    fn new(path: &Path, reason: impl fmt::Display) -> Self {
        Self {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signing key {}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for KeyFileError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_replaced_by_none() {
        for algorithm in SigningKey::ALGORITHMS {
            let folder = tempfile::tempdir().unwrap();
            let data = folder.path();
            let first = key_in(data, algorithm).unwrap();
            assert_eq!(key_in(data, algorithm).unwrap().kid(), first.kid());
            let again = generate_key(data, algorithm).unwrap_err().to_string();
            assert!(
                again.ends_with("it is there already, and is not replaced"),
                "{again}"
            );
            assert_eq!(key_in(data, algorithm).unwrap().kid(), first.kid());
            for other in SigningKey::ALGORITHMS
                .into_iter()
                .filter(|other| *other != algorithm)
            {
                let other = generate_key(data, other).unwrap_err().to_string();
                assert!(other.ends_with("make it by a rotation"), "{other}");
            }
        }
    }
}
