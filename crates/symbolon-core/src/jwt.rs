//! A JWT that nobody has verified yet, in the compact serialization (RFC 7515 §3.1).

use std::fmt;

use zeroize::Zeroizing;

use crate::base64url;
use crate::record::Lineage;
use crate::time::UnixTime;
use crate::token::{OpaqueToken, TokenKind};
use crate::verify;

/// Three base64url parts with two dots, and no more is known of it. No `Debug` prints it.
#[derive(Clone)]
pub struct UnverifiedJwt {
    text: Zeroizing<String>,
    header_end: usize,
    payload_end: usize,
    /// Set if it was glued or introspected: what the client presented, and what the entry said besides.
    glued: Option<(TokenKind, Lineage)>,
}

/// Why a text is no JWT in the compact serialization of a JWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtError {
    /// Not exactly three parts; five are a JWE (RFC 7516 §3.1).
    Parts,
    /// A part that is empty or holds an octet outside base64url.
    Alphabet,
    /// Longer than [`MAX_SIGNING_INPUT`] and a signature.
    Length,
    /// It has another signature than the opaque token that it is to belong to.
    Signature,
}

/// Longest JWS Signing Input that is taken, in octets: what an entry of 64 KiB holds (GW-30).
pub const MAX_SIGNING_INPUT: usize = 65_227;

impl UnverifiedJwt {
    /// Reads the compact serialization.
    pub fn parse(text: Zeroizing<String>) -> Result<Self, JwtError> {
        let mut dots = text.match_indices('.').map(|(at, _)| at);
        let (Some(header_end), Some(payload_end), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(JwtError::Parts);
        };
        if payload_end > MAX_SIGNING_INPUT || text.len() > MAX_SIGNING_INPUT + 2048 {
            return Err(JwtError::Length);
        }
        if text
            .split('.')
            .any(|part| part.is_empty() || !base64url::is_alphabet(part))
        {
            return Err(JwtError::Alphabet);
        }
        Ok(Self {
            text,
            header_end,
            payload_end,
            glued: None,
        })
    }

    pub(crate) fn from_glue(
        text: Zeroizing<String>,
        kind: TokenKind,
        lineage: Lineage,
    ) -> Result<Self, JwtError> {
        Ok(Self {
            glued: Some((kind, lineage)),
            ..Self::parse(text)?
        })
    }

    /// The JWT that an authorization server, or a token service in the place of the store, gave for `token`. Of a token
    /// that was split it has to have the signature: nobody may answer with another one's JWT.
    pub fn introspected(text: Zeroizing<String>, token: &OpaqueToken) -> Result<Self, JwtError> {
        let jwt = Self::parse(text)?;
        if token.kind() != TokenKind::Phantom && jwt.signature() != token.signature() {
            return Err(JwtError::Signature);
        }
        Ok(Self {
            glued: Some((token.kind(), Lineage::default())),
            ..jwt
        })
    }

    /// Whether its signature can be an opaque token, and its header is one of a JWS. Says nothing of whether to.
    pub fn can_be_split(&self) -> bool {
        let has_algorithm = verify::read_part(self.header()).is_ok_and(|header| header.contains_key("alg"));
        has_algorithm && self.signature().parse::<OpaqueToken>().is_ok()
    }

    /// The issuer and the time of issue that it claims, for deciding whose keys to ask for. Nobody has checked them.
    pub fn unverified_origin(&self) -> Option<(String, UnixTime)> {
        let payload = verify::read_part(self.payload()).ok()?;
        let issuer = payload.get("iss")?.as_str()?.to_owned();
        let issued_at = payload.get("iat").map(|iat| verify::numeric_date(iat, "iat"));
        Some((issuer, issued_at.and_then(Result::ok).unwrap_or_default()))
    }

    /// Header and payload with their dot (RFC 7515 §2).
    pub fn signing_input(&self) -> &str {
        &self.text[..self.payload_end]
    }

    pub(crate) fn header(&self) -> &str {
        &self.text[..self.header_end]
    }

    pub(crate) fn payload(&self) -> &str {
        &self.text[self.header_end + 1..self.payload_end]
    }

    /// The third part.
    pub(crate) fn signature(&self) -> &str {
        &self.text[self.payload_end + 1..]
    }

    /// What its entry said besides, if it was glued.
    pub fn lineage(&self) -> Lineage {
        self.glued.map(|(_, lineage)| lineage).unwrap_or_default()
    }

    pub(crate) fn glued(&self) -> Option<(TokenKind, Lineage)> {
        self.glued
    }

    pub(crate) fn into_text(self) -> Zeroizing<String> {
        self.text
    }

    /// The text itself. Unverified: for showing the pattern, never for forwarding.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for UnverifiedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnverifiedJwt(..)")
    }
}

impl fmt::Display for JwtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parts => "not the three parts of a signed JWT",
            Self::Alphabet => "an empty part, or an octet outside base64url, in a JWT",
            Self::Length => "a JWT of more than 64 KiB",
            Self::Signature => "a JWT with another signature than the opaque token",
        })
    }
}

impl std::error::Error for JwtError {}

#[cfg(test)]
mod tests {
    use super::*;

    // GW-30, BR-13
    #[test]
    fn only_three_base64url_parts_are_taken() {
        for (text, error) in [
            ("", JwtError::Parts),
            ("e30", JwtError::Parts),
            ("e30.e30", JwtError::Parts),
            ("e30.e30.AA.", JwtError::Parts),
            ("e30.AA.AA.AA.AA", JwtError::Parts),
            (".e30.AA", JwtError::Alphabet),
            ("e30..AA", JwtError::Alphabet),
            ("e30.e30.", JwtError::Alphabet),
            ("e30.e30.AA==", JwtError::Alphabet),
            ("e30.e30.AA\n", JwtError::Alphabet),
            ("e30.e30.AA\r\nX-User: root", JwtError::Alphabet),
            (" e30.e30.AA", JwtError::Alphabet),
            ("e30.e3+.AA", JwtError::Alphabet),
            ("e30.é.AA", JwtError::Alphabet),
        ] {
            assert_eq!(parse(text).unwrap_err(), error, "{text:?}");
        }
        let jwt = parse("e30.e31.AA").unwrap();
        assert_eq!(
            (jwt.header(), jwt.payload(), jwt.signature()),
            ("e30", "e31", "AA")
        );
        assert_eq!((jwt.signing_input(), jwt.expose()), ("e30.e31", "e30.e31.AA"));
    }

    #[test]
    fn a_signing_input_that_no_entry_holds_is_refused() {
        let of = |signing_input: usize, signature: usize| {
            parse(&format!(
                "e30.{}.{}",
                "e".repeat(signing_input - 4),
                "A".repeat(signature)
            ))
        };
        assert!(of(MAX_SIGNING_INPUT, 86).is_ok());
        assert_eq!(of(MAX_SIGNING_INPUT + 1, 86).unwrap_err(), JwtError::Length);
        assert_eq!(of(7, MAX_SIGNING_INPUT + 2048).unwrap_err(), JwtError::Length);
    }

    #[test]
    fn of_a_split_token_only_the_jwt_with_its_signature_is_taken() {
        let signature = "EwIaRgq4go4R2M2z7AADywZ2ToxG4gDMoG4SQ1X3GJ0";
        let introspected = |jwt: &str, token: &OpaqueToken| {
            UnverifiedJwt::introspected(Zeroizing::new(jwt.to_owned()), token)
                .map(|jwt| jwt.glued().unwrap().0)
        };
        let jwt = format!("e30.e31.{signature}");
        let salted = format!("{signature}.AAAAAAAAAAAAAAAAAAAAAA");
        for (text, kind) in [(signature, TokenKind::Signature), (&salted, TokenKind::Salted)] {
            let token = text.parse().unwrap();
            assert_eq!(introspected(&jwt, &token), Ok(kind));
            assert_eq!(introspected("e30.e31.AA", &token), Err(JwtError::Signature));
            assert_eq!(introspected("e30.e31", &token), Err(JwtError::Parts));
        }
        let phantom = OpaqueToken::parse_phantom(signature).unwrap();
        assert_eq!(introspected("e30.e31.AA", &phantom), Ok(TokenKind::Phantom));
    }

    fn parse(text: &str) -> Result<UnverifiedJwt, JwtError> {
        UnverifiedJwt::parse(Zeroizing::new(text.to_owned()))
    }
}
