//! Where the endpoints stand. The only place that spells their paths.

use url::Url;

/// The paths of the endpoints, below the issuer identifier.
pub struct Paths {
    /// Token endpoint (RFC 6749 §3.2).
    pub token: String,
    /// Revocation endpoint (RFC 7009 §2).
    pub revocation: String,
    /// Introspection endpoint (RFC 7662 §2).
    pub introspection: String,
    /// JWK Set (RFC 7517 §5).
    pub jwks: String,
    /// Authorization server metadata; its path stands before the issuer's (RFC 8414 §3.1).
    pub metadata: String,
}

impl Paths {
    /// Of the token endpoint, below the issuer identifier.
    pub const TOKEN: &str = "/token";
    /// Of the revocation endpoint, likewise.
    pub const REVOCATION: &str = "/revoke";
    /// Of the introspection endpoint, likewise.
    pub const INTROSPECTION: &str = "/introspect";
    /// Of the JWK Set, likewise.
    pub const JWKS: &str = "/jwks";

    /// The paths under that issuer identifier.
    pub fn of(issuer: &Url) -> Self {
        let base = issuer.path().trim_end_matches('/');
        Self {
            token: format!("{base}{}", Self::TOKEN),
            revocation: format!("{base}{}", Self::REVOCATION),
            introspection: format!("{base}{}", Self::INTROSPECTION),
            jwks: format!("{base}{}", Self::JWKS),
            metadata: format!("/.well-known/oauth-authorization-server{base}"),
        }
    }

    /// No paths.
    pub fn none() -> Self {
        let none = String::new;
        Self {
            token: none(),
            revocation: none(),
            introspection: none(),
            jwks: none(),
            metadata: none(),
        }
    }

    /// Whether that is the path of one of the endpoints.
    pub fn contain(&self, path: &str) -> bool {
        let Self {
            token,
            revocation,
            introspection,
            jwks,
            metadata,
        } = self;
        [token, revocation, introspection, jwks, metadata]
            .into_iter()
            .any(|endpoint| endpoint == path)
    }
}
