//! What a client sent to an endpoint of the authorization server: passed on byte for byte, and read on the side.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use symbolon_core::{base64url, json};
use zeroize::Zeroizing;

/// A form as it came, and its parameters.
pub(super) struct Form {
    body: Bytes,
    parameters: Vec<(String, Zeroizing<String>)>,
}

/// Parameters of which a second one could be read as the first (BR-02).
const ONCE: [&str; 8] = [
    "grant_type",
    "client_id",
    "code",
    "refresh_token",
    "subject_token",
    "actor_token",
    "token",
    "client_assertion",
];

impl Form {
    /// Reads a body. What is no form has no parameters that we know, and is the authorization server's to refuse.
    /// None if a parameter stands twice that must not.
    pub(super) fn read(headers: &HeaderMap, body: Bytes) -> Option<Self> {
        let content_type = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Some(Self {
                body,
                parameters: Vec::new(),
            });
        }
        let mut parameters: Vec<(String, Zeroizing<String>)> = Vec::new();
        for (name, value) in form_urlencoded::parse(&body) {
            if ONCE.contains(&&*name) && parameters.iter().any(|(known, _)| *known == name) {
                return None;
            }
            parameters.push((name.into_owned(), Zeroizing::new(value.into_owned())));
        }
        Some(Self { body, parameters })
    }

    /// A parameter that has a value.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        let found = self
            .parameters
            .iter()
            .find(|(known, value)| known == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// The body as it came.
    pub(super) fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// The body with another value for that parameter, every other octet as it came.
    pub(super) fn with(&self, name: &str, value: &str) -> Self {
        let encoded: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let replace = |pair: &[u8]| -> Vec<u8> {
            match form_urlencoded::parse(pair).next() {
                Some((known, _)) if known == name => {
                    let written = pair.split(|octet| *octet == b'=').next().unwrap_or_default();
                    [written, b"=", encoded.as_bytes()].concat()
                }
                _ => pair.to_vec(),
            }
        };
        let pairs: Vec<_> = self.body.split(|octet| *octet == b'&').map(replace).collect();
        let mut parameters = self.parameters.clone();
        for (known, held) in &mut parameters {
            if known == name {
                *held = Zeroizing::new(value.to_owned());
            }
        }
        Self {
            body: pairs.join(&b'&').into(),
            parameters,
        }
    }

    /// Which client says that it asks. The authorization server finds out whether it is.
    pub(super) fn unverified_client(&self, headers: &HeaderMap) -> Option<String> {
        let basic = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(client_of_basic);
        let assertion = || self.one("client_assertion").and_then(subject_of_assertion);
        basic
            .or_else(|| self.one("client_id").map(str::to_owned))
            .or_else(assertion)
    }
}

fn client_of_basic(field: &str) -> Option<String> {
    let (scheme, value) = field.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let joined = Zeroizing::new(STANDARD.decode(value.trim()).ok()?);
    let id = joined.split(|octet| *octet == b':').next()?;
    let form = [b"v=", id].concat();
    form_urlencoded::parse(&form)
        .next()
        .map(|(_, id): (_, Cow<'_, str>)| id.into_owned())
}

fn subject_of_assertion(assertion: &str) -> Option<String> {
    let payload = base64url::decode(assertion.split('.').nth(1)?)?;
    Some(
        json::parse_object(&payload)
            .ok()?
            .get("sub")?
            .as_str()?
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(body: &str) -> Option<Form> {
        let headers = [(
            CONTENT_TYPE,
            "application/x-www-form-urlencoded; charset=UTF-8"
                .parse()
                .unwrap(),
        )]
        .into_iter()
        .collect();
        Form::read(&headers, body.to_owned().into())
    }

    // BR-02
    #[test]
    fn what_must_stand_once_is_refused_twice_and_the_rest_passes() {
        assert!(form("grant_type=a&grant_type=a").is_none());
        assert!(form("code=a&c%6fde=b").is_none());
        assert!(form("resource=a&resource=b&audience=x&audience=y&x=1&x=2").is_some());
        assert_eq!(form("scope=&grant_type=a").unwrap().one("scope"), None);
    }

    // BR-16
    #[test]
    fn one_value_is_replaced_and_no_other_octet() {
        let whole = form("a=%41+b&subject_token=old&&z")
            .unwrap()
            .with("subject_token", "h.p.s+");
        assert_eq!(whole.body(), "a=%41+b&subject_token=h.p.s%2B&&z");
        assert_eq!(whole.one("subject_token"), Some("h.p.s+"));
    }

    #[test]
    fn the_client_is_named_by_header_parameter_or_assertion() {
        let basic = |text: &str| {
            [(
                AUTHORIZATION,
                format!("Basic {}", STANDARD.encode(text)).parse().unwrap(),
            )]
            .into_iter()
            .collect()
        };
        let none = HeaderMap::new();
        assert_eq!(
            form("x=1").unwrap().unverified_client(&basic("a%3Ab:secret")),
            Some("a:b".into())
        );
        assert_eq!(
            form("client_id=app").unwrap().unverified_client(&none),
            Some("app".into())
        );
        let payload = base64url::encode(br#"{"sub":"app"}"#);
        let assertion = format!("client_assertion=e30.{payload}.AA");
        assert_eq!(
            form(&assertion).unwrap().unverified_client(&none),
            Some("app".into())
        );
    }
}
