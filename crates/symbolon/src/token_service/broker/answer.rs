//! The answer of a token endpoint (RFC 6749 §5.1): which member is exchanged, and every other one left as it is.

use std::fmt;

use hyper::body::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use symbolon_core::{OpaqueToken, json};
use zeroize::Zeroizing;

/// An answer with an access token in it.
pub(super) struct TokenAnswer {
    text: Bytes,
    /// The token.
    pub(super) access_token: Zeroizing<String>,
    /// The refresh token beside it.
    pub(super) refresh_token: Option<Zeroizing<String>>,
    /// The ID token beside it.
    pub(super) id_token: Option<Zeroizing<String>>,
    /// Seconds that the answer gives the token, if it says so.
    pub(super) expires_in: Option<u64>,
}

/// Why an answer cannot be read though it says that it is one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable(&'static str);

impl TokenAnswer {
    /// Reads a 200. None if it is no token answer at all, or one whose token is none of an access token's (BR-07).
    pub(super) fn read(headers: &HeaderMap, text: Bytes) -> Result<Option<Self>, Unreadable> {
        let content_type = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Ok(None);
        }
        if headers
            .get(CONTENT_ENCODING)
            .is_some_and(|coding| coding != "identity")
        {
            return Err(Unreadable("a compressed answer, though none was asked for"));
        }
        let members = json::parse_object(&text).map_err(|_| Unreadable("not strict JSON"))?;
        let member = |name: &str| members.get(name).and_then(json::Value::as_str);
        let Some(access_token) = member("access_token") else {
            return Ok(None);
        };
        let is_bearer = member("token_type")
            .is_some_and(|kind| kind.eq_ignore_ascii_case("bearer") || kind.eq_ignore_ascii_case("dpop"));
        let is_access_token = match members.get("issued_token_type") {
            None => true,
            Some(kind) => matches!(
                kind.as_str(),
                Some(
                    "urn:ietf:params:oauth:token-type:access_token" | "urn:ietf:params:oauth:token-type:jwt"
                )
            ),
        };
        if !is_bearer || !is_access_token {
            return Ok(None);
        }
        let secret = |name: &str| member(name).map(|text| Zeroizing::new(text.to_owned()));
        let expires_in = match members.get("expires_in") {
            Some(json::Value::Integer(seconds)) => Some(*seconds),
            _ => None,
        };
        Ok(Some(Self {
            access_token: Zeroizing::new(access_token.to_owned()),
            refresh_token: secret("refresh_token"),
            id_token: secret("id_token"),
            expires_in,
            text,
        }))
    }

    /// The answer with the opaque token in the place of the JWT, every other octet as it came; and without the
    /// member `drop`, if there is one.
    pub(super) fn with(&self, token: &OpaqueToken, drop: Option<&str>) -> Option<Bytes> {
        let text = std::str::from_utf8(&self.text).ok()?;
        let members = serde_json::Deserializer::from_str(text)
            .deserialize_map(Members)
            .ok()?;
        let exchanged = format!("\"{}\"", token.expose());
        if drop.is_some_and(|drop| members.iter().any(|(name, _)| name == drop)) {
            let kept = members
                .iter()
                .filter(|(name, _)| Some(name.as_str()) != drop)
                .map(|(name, value)| {
                    let value = if name == "access_token" {
                        &exchanged
                    } else {
                        value.get()
                    };
                    format!("{}:{value}", serde_json::Value::from(name.as_str()))
                });
            return Some(format!("{{{}}}", kept.collect::<Vec<_>>().join(",")).into());
        }
        let (_, value) = members.iter().find(|(name, _)| name == "access_token")?;
        let start = (value.get().as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
        let (before, rest) = text.split_at_checked(start)?;
        Some(
            [before, &exchanged, rest.get(value.get().len()..)?]
                .concat()
                .into(),
        )
    }
}

/// The members of an object in their order, each value as it is written.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: &str = "EwIaRgq4go4R2M2z7AADywZ2ToxG4gDMoG4SQ1X3GJ0";

    fn read(text: &str) -> Result<Option<TokenAnswer>, Unreadable> {
        let headers = [(CONTENT_TYPE, "application/json;charset=UTF-8".parse().unwrap())]
            .into_iter()
            .collect();
        TokenAnswer::read(&headers, text.to_owned().into())
    }

    // BR-10
    #[test]
    fn only_the_access_token_is_exchanged() {
        let text = "{ \"expires_in\" : 3.0e2,\n \"\\u0061ccess_token\":\t\"h.p.s\" , \"token_type\":\"bearer\",\"x\":{\"access_token\":\"h.p.s\"}, \"é\":1 }";
        let answer = read(text).unwrap().unwrap();
        let exchanged = answer.with(&T.parse().unwrap(), None).unwrap();
        assert_eq!(exchanged, text.replacen("h.p.s", T, 1));
    }

    #[test]
    fn a_member_can_be_left_out_and_the_others_keep_their_order_and_spelling() {
        let text = r#"{"a":1.50,"id_token":"x","access_token":"h.p.s","token_type":"DPoP","b":[1, 2]}"#;
        let answer = read(text).unwrap().unwrap();
        let exchanged = answer.with(&T.parse().unwrap(), Some("id_token")).unwrap();
        assert_eq!(
            exchanged,
            format!(r#"{{"a":1.50,"access_token":"{T}","token_type":"DPoP","b":[1, 2]}}"#)
        );
    }

    // BR-07
    #[test]
    fn what_is_no_access_token_is_left_alone() {
        for text in [
            r#"{"token_type":"Bearer"}"#,
            r#"{"access_token":1,"token_type":"Bearer"}"#,
            r#"{"access_token":"a.b.c"}"#,
            r#"{"access_token":"a.b.c","token_type":"N_A"}"#,
            r#"{"access_token":"a.b.c","token_type":"Bearer","issued_token_type":"urn:ietf:params:oauth:token-type:id_token"}"#,
        ] {
            assert!(read(text).unwrap().is_none(), "{text}");
        }
        assert!(read(r#"{"access_token":"a","access_token":"b","token_type":"Bearer"}"#).is_err());
        assert!(read("[]").is_err());
    }
}
