//! What a client sent to an endpoint of the authorization server: passed on byte for byte, and read on the side.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use hyper::http::request::Parts;
use symbolon_core::{base64url, json};
use zeroize::Zeroizing;

use crate::form;
use crate::http;
use crate::token_service::token::Refusal;

/// A form as it came, and its parameters.
pub(super) struct Form {
    body: Bytes,
    parameters: Vec<(Zeroizing<String>, Zeroizing<String>)>,
}

/// Parameters that are acted upon here. Whatever the server reads as one of them is read here as well, or refused: what
/// is decided by it would otherwise be decided by another value than the server's (BR-02).
const ACTED_UPON: [&str; 14] = [
    "grant_type",
    "client_id",
    "code",
    "refresh_token",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "token",
    "client_assertion",
    "response_type",
    "response_mode",
    "request",
    "request_uri",
];
/// Each name is held against those before it.
const MAX_PARAMETERS: usize = 100;

impl Form {
    /// Reads a request that everybody reads alike.
    pub(super) fn read(parts: &Parts, body: Bytes) -> Result<Self, Refusal> {
        let refuse = |why| Err(Refusal::InvalidRequest(why));
        if !is_plain_form(&parts.headers) {
            return refuse("the body is not application/x-www-form-urlencoded in UTF-8");
        }
        let query = parts.uri.query().unwrap_or_default().as_bytes();
        if names(query).any(|(_, name)| acted_upon(&name).is_some()) {
            // Servers that join query and body would take it for one of the body (RFC 6749 §3.2).
            return refuse("a parameter stands in the query that belongs into the body");
        }
        if names(&body)
            .any(|(is_plain, name)| acted_upon(&name).is_some_and(|known| !is_plain || known != name))
        {
            return refuse("a parameter's name can be read as another one's");
        }
        let mut parameters: Vec<(Zeroizing<String>, Zeroizing<String>)> = Vec::new();
        for pair in body.split(|&octet| octet == b'&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == MAX_PARAMETERS {
                return refuse("more than 100 parameters");
            }
            let (name, value) = halves(pair);
            let (Some(name), Some(value)) = (form::decode(name), form::decode(value)) else {
                return refuse("a parameter is not percent-encoded UTF-8");
            };
            let stands_already = || parameters.iter().any(|(known, _)| *known == name);
            if ACTED_UPON.contains(&name.as_str()) && stands_already() {
                return refuse("a parameter stands more than once");
            }
            parameters.push((name, value));
        }
        Ok(Self { body, parameters })
    }

    /// A parameter that has a value.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        let found = self
            .parameters
            .iter()
            .find(|(known, value)| known.as_str() == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// The body as it came.
    pub(super) fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// The body with another value for that parameter, every other octet as it came.
    pub(super) fn with(&self, name: &str, value: &str) -> Self {
        let encoded: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let is_it = |written: &[u8]| form::decode(written).is_some_and(|known| known.as_str() == name);
        let replace = |pair: &[u8]| match halves(pair) {
            (written, _) if is_it(written) => [written, b"=", encoded.as_bytes()].concat(),
            _ => pair.to_vec(),
        };
        let pairs: Vec<_> = self.body.split(|octet| *octet == b'&').map(replace).collect();
        let mut parameters = self.parameters.clone();
        for (known, held) in &mut parameters {
            if known.as_str() == name {
                *held = Zeroizing::new(value.to_owned());
            }
        }
        Self {
            body: pairs.join(&b'&').into(),
            parameters,
        }
    }

    /// Which client says that it asks; none says so if none. The authorization server finds out whether it is. A
    /// request that names two could be another client's for the server than for us.
    pub(super) fn unverified_client(&self, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
        let basic = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(client_of_basic);
        let parameter = self.one("client_id").map(str::to_owned);
        let assertion = self.one("client_assertion").and_then(subject_of_assertion);
        let mut named = [basic, parameter, assertion].into_iter().flatten();
        let client = named.next();
        if named.any(|other| Some(&other) != client.as_ref()) {
            return Err(Refusal::InvalidRequest("two different client ids"));
        }
        Ok(client)
    }
}

/// Whether the body is what it is taken for here: a form, in an encoding in which the octets of ASCII stand for
/// themselves, and not compressed.
fn is_plain_form(headers: &HeaderMap) -> bool {
    let is_form = |content_type: &[u8]| {
        let content_type = content_type.to_ascii_lowercase();
        let mut parts = content_type.split(|&octet| octet == b';').map(<[u8]>::trim_ascii);
        let is_charset = |part: &[u8]| {
            !part.starts_with(b"charset")
                || matches!(
                    part,
                    b"charset=utf-8" | b"charset=\"utf-8\"" | b"charset=iso-8859-1" | b"charset=us-ascii"
                )
        };
        parts.next() == Some(b"application/x-www-form-urlencoded") && parts.all(is_charset)
    };
    headers.contains_key(CONTENT_TYPE)
        && http::is_once_at_most(headers, &CONTENT_TYPE, is_form)
        && http::is_once_at_most(headers, &CONTENT_ENCODING, |coding| coding == b"identity")
}

/// The names in a form, and whether everybody sees one there: some servers take a `;` for an `&`.
fn names(form: &[u8]) -> impl Iterator<Item = (bool, String)> {
    form.split(|&octet| octet == b'&').flat_map(|pair| {
        pair.split(|&octet| octet == b';').enumerate().map(|(at, pair)| {
            let decoded = form_urlencoded::parse(halves(pair).0).next();
            (
                at == 0,
                decoded.map_or_else(String::new, |(name, _)| name.into_owned()),
            )
        })
    })
}

/// Which parameter some server takes that name for: without regard to case, cut at a NUL or a bracket, with dots and
/// spaces for what PHP makes of them.
fn acted_upon(name: &str) -> Option<&'static str> {
    if let Some(known) = ACTED_UPON.into_iter().find(|known| *known == name) {
        return Some(known);
    }
    let name = name.split(['\0', '[']).next().unwrap_or_default();
    let name = name
        .trim()
        .to_ascii_lowercase()
        .replace(|character: char| !character.is_ascii_alphanumeric(), "_");
    ACTED_UPON
        .into_iter()
        .find(|known| *known == name.trim_matches('_'))
}

/// What stands before the first `=`, and what behind it.
fn halves(pair: &[u8]) -> (&[u8], &[u8]) {
    let equals = pair.iter().position(|&octet| octet == b'=');
    equals.map_or((pair, &[]), |at| (&pair[..at], &pair[at + 1..]))
}

pub(super) fn client_of_basic(field: &str) -> Option<String> {
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
    use hyper::Request;

    use super::*;

    fn form_as(uri: &str, fields: &[(&str, &str)], body: &str) -> Option<Form> {
        let request = fields.iter().fold(Request::post(uri), |request, (name, value)| {
            request.header(*name, *value)
        });
        let (parts, ()) = request.body(()).unwrap().into_parts();
        Form::read(&parts, body.to_owned().into()).ok()
    }

    fn form(body: &str) -> Option<Form> {
        let plain = ("content-type", "application/x-www-form-urlencoded; charset=UTF-8");
        form_as("/token", &[plain], body)
    }

    // BR-02
    #[test]
    fn what_must_stand_once_is_refused_twice_and_the_rest_passes() {
        assert!(form("grant_type=a&grant_type=a").is_none());
        assert!(form("code=a&c%6fde=b").is_none());
        assert!(form("resource=a&resource=b&audience=x&audience=y&x=1&x=2").is_some());
        assert_eq!(form("scope=&grant_type=a").unwrap().one("scope"), None);
    }

    #[test]
    fn what_a_server_could_read_otherwise_is_refused() {
        for body in [
            "grant.type=password",
            "grant+type=password",
            "+grant_type=password",
            "Grant_Type=password",
            "grant_type[]=password",
            "grant_type%00x=password",
            "x=1;grant_type=password",
            "code=%zz",
            "code=%ff",
        ] {
            assert!(form(body).is_none(), "{body}");
        }
        assert!(form("scope=a;b&x[]=1&authorization_details=%5B%7B%7D%5D").is_some());
        assert!(form(&"x=1&".repeat(100)).is_some() && form(&"x=1&".repeat(101)).is_none());
        let plain = ("content-type", "application/x-www-form-urlencoded");
        assert!(form_as("/token?p=policy&unknown=1", &[plain], "x=1").is_some());
        assert!(form_as("/token?grant_type=password", &[plain], "x=1").is_none());
        for fields in [
            &[][..],
            &[("content-type", "application/json")],
            &[("content-type", "text/plain"), plain],
            &[("content-type", "application/x-www-form-urlencoded;charset=ibm037")],
            &[plain, ("content-encoding", "gzip")],
        ] {
            assert!(form_as("/token", fields, "grant_type=a").is_none(), "{fields:?}");
        }
        assert!(form_as("/token", &[plain, ("content-encoding", "identity")], "x=1").is_some());
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
    fn the_client_is_named_by_header_parameter_or_assertion_and_once() {
        let basic = |text: &str| {
            [(
                AUTHORIZATION,
                format!("Basic {}", STANDARD.encode(text)).parse().unwrap(),
            )]
            .into_iter()
            .collect()
        };
        let client = |body: &str, headers: &HeaderMap| form(body).unwrap().unverified_client(headers).ok();
        let none = HeaderMap::new();
        assert_eq!(client("x=1", &basic("a%3Ab:secret")), Some(Some("a:b".into())));
        assert_eq!(client("client_id=app", &none), Some(Some("app".into())));
        assert_eq!(client("x=1", &none), Some(None));
        let payload = base64url::encode(br#"{"sub":"app"}"#);
        let assertion = format!("client_assertion=e30.{payload}.AA");
        assert_eq!(client(&assertion, &none), Some(Some("app".into())));
        assert_eq!(client("client_id=app", &basic("app:x")), Some(Some("app".into())));
        assert_eq!(client("client_id=app", &basic("other:x")), None);
        assert_eq!(client(&format!("client_id=other&{assertion}"), &none), None);
    }
}
