//! The answer of a token endpoint (RFC 6749 §5.1): which member is exchanged, and every other one left as it is.

use std::fmt;

use hyper::body::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use symbolon_core::{OpaqueToken, json};
use zeroize::Zeroizing;

use crate::http;

/// An answer with an access token in it.
pub(super) struct TokenAnswer {
    text: Bytes,
    /// The token.
    pub(super) access_token: Zeroizing<String>,
    /// What the answer says that it is.
    pub(super) kind: Kind,
    /// The refresh token beside it.
    pub(super) refresh_token: Option<Zeroizing<String>>,
    /// Seconds that the answer gives the refresh token, if it says so. The members are no standard: Keycloak writes the
    /// first, others the second; 0 is Keycloak's for a token that does not end.
    pub(super) refresh_expires_in: Option<u64>,
    /// The ID token beside it.
    pub(super) id_token: Option<Zeroizing<String>>,
    /// Seconds that the answer gives the token, if it says so.
    pub(super) expires_in: Option<u64>,
}

/// What an answer says of the token in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An access token.
    Access,
    /// Something else that is used as a bearer token; some servers say so of access tokens too (RFC 8693 §2.2.1).
    Other,
    /// Its `token_type` is none that is known, or is not there.
    Unknown,
}

/// Why an answer cannot be read though it is one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable(&'static str);

impl TokenAnswer {
    /// Reads an answer to a request that succeeded. None if there is no access token in it (BR-07). What a client could
    /// find one in, and we not, is unreadable: it is not handed out.
    pub(super) fn read(headers: &HeaderMap, text: Bytes) -> Result<Option<Self>, Unreadable> {
        if text.is_empty() {
            return Ok(None);
        }
        let is_json = |content_type: &[u8]| {
            let media_type = content_type
                .split(|&octet| octet == b';')
                .next()
                .unwrap_or_default();
            media_type.trim_ascii().eq_ignore_ascii_case(b"application/json")
        };
        let is_plain = |coding: &[u8]| coding == b"identity";
        if !headers.contains_key(CONTENT_TYPE) || !http::is_once_at_most(headers, &CONTENT_TYPE, is_json) {
            return Err(Unreadable("not application/json"));
        }
        if !http::is_once_at_most(headers, &CONTENT_ENCODING, is_plain) {
            return Err(Unreadable("compressed, though that was not asked for"));
        }
        let members = json::parse_object(&text).map_err(|_| Unreadable("not strict JSON"))?;
        let member = |name: &str| members.get(name).and_then(json::Value::as_str);
        let Some(access_token) = member("access_token") else {
            return Ok(None);
        };
        let kind = match (
            member("token_type").map(str::to_ascii_lowercase).as_deref(),
            members.get("issued_token_type").map(json::Value::as_str),
        ) {
            (Some("n_a"), _) => return Ok(None),
            (Some("bearer" | "dpop"), None | Some(Some(ACCESS_TOKEN | JWT))) => Kind::Access,
            (Some("bearer" | "dpop"), Some(_)) => Kind::Other,
            _ => Kind::Unknown,
        };
        let secret = |name: &str| member(name).map(|text| Zeroizing::new(text.to_owned()));
        let seconds = |name: &str| match members.get(name) {
            Some(json::Value::Integer(seconds)) => Some(*seconds),
            _ => None,
        };
        Ok(Some(Self {
            access_token: Zeroizing::new(access_token.to_owned()),
            kind,
            refresh_token: secret("refresh_token"),
            refresh_expires_in: seconds("refresh_expires_in")
                .or_else(|| seconds("refresh_token_expires_in"))
                .filter(|seconds| *seconds > 0),
            id_token: secret("id_token"),
            expires_in: seconds("expires_in"),
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

/// Values of `issued_token_type`, and of `subject_token_type` (RFC 8693 §3).
pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
pub(super) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

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
            "",
            r#"{"token_type":"Bearer"}"#,
            r#"{"access_token":1,"token_type":"Bearer"}"#,
            r#"{"access_token":"a.b.c","token_type":"N_A"}"#,
            r#"{"access_token":"a.b.c","token_type":"n_a","issued_token_type":"urn:ietf:params:oauth:token-type:id_token"}"#,
        ] {
            assert!(read(text).unwrap().is_none(), "{text}");
        }
        let kind = |members: &str| {
            let text = format!(r#"{{"access_token":"a.b.c"{members}}}"#);
            read(&text).unwrap().unwrap().kind
        };
        assert_eq!(kind(r#","token_type":"bEARER""#), Kind::Access);
        assert_eq!(kind(""), Kind::Unknown);
        assert_eq!(kind(r#","token_type":"mac""#), Kind::Unknown);
        for issued in [r#""urn:ietf:params:oauth:token-type:refresh_token""#, "1", "null"] {
            assert_eq!(
                kind(&format!(r#","token_type":"DPoP","issued_token_type":{issued}"#)),
                Kind::Other
            );
        }
    }

    // BR-19
    #[test]
    fn what_a_client_could_read_and_we_not_is_unreadable() {
        let token = r#"{"access_token":"a","token_type":"Bearer"}"#;
        assert!(read(r#"{"access_token":"a","access_token":"b","token_type":"Bearer"}"#).is_err());
        for text in ["[]", "access_token=a.b.c", "{}{}", "\u{feff}{}"] {
            assert!(read(text).is_err(), "{text}");
        }
        let json = ("content-type", "application/json");
        for fields in [
            &[][..],
            &[("content-type", "text/plain")],
            &[json, ("content-type", "text/plain")],
            &[json, ("content-encoding", "gzip")],
            &[
                json,
                ("content-encoding", "identity"),
                ("content-encoding", "gzip"),
            ],
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            assert!(TokenAnswer::read(&headers, token.into()).is_err(), "{fields:?}");
        }
    }

    #[test]
    fn the_end_of_a_refresh_token_is_read_where_it_is_said() {
        let end = |member: &str| {
            let text = format!(r#"{{"access_token":"a","token_type":"Bearer"{member}}}"#);
            read(&text).unwrap().unwrap().refresh_expires_in
        };
        assert_eq!(end(r#","refresh_expires_in":1800"#), Some(1800));
        assert_eq!(end(r#","refresh_token_expires_in":60"#), Some(60));
        for unsaid in [
            "",
            r#","refresh_expires_in":0"#,
            r#","refresh_expires_in":-1"#,
            r#","refresh_expires_in":"9""#,
        ] {
            assert_eq!(end(unsaid), None, "{unsaid}");
        }
    }
}
