//! Request bodies of the endpoints (RFC 6749 appendix B): read strictly, so that nobody can read them otherwise.

use axum::body::Body;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use zeroize::Zeroizing;

use crate::http;

/// The parameters of a request. Those without a value count as absent (RFC 6749 §3.2).
pub(super) struct Form(Vec<(String, Zeroizing<String>)>);

/// The body is no form, or its parameters are not what they may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

const MAX_BODY: usize = 64 * 1024;
/// Parameters that may stand more than once (RFC 8707 §2).
const REPEATABLE: [&str; 1] = ["resource"];

impl Form {
    pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Malformed> {
        let content_type = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Malformed("the body is not application/x-www-form-urlencoded"));
        }
        let body = http::read(body, MAX_BODY)
            .await
            .ok_or(Malformed("the body broke off or is too large"))?;
        Self::parse(&body)
    }

    fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut parameters: Vec<(String, Zeroizing<String>)> = Vec::new();
        for (name, value) in form_urlencoded::parse(body) {
            let stands_already = parameters.iter().any(|(known, _)| *known == name);
            if stands_already && !REPEATABLE.contains(&&*name) {
                return Err(Malformed("a parameter stands more than once"));
            }
            parameters.push((name.into_owned(), Zeroizing::new(value.into_owned())));
        }
        parameters.retain(|(_, value)| !value.is_empty());
        Ok(Self(parameters))
    }

    /// The value of a parameter; of one that may be repeated, the first.
    pub(super) fn one<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// Every value of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // BR-02
    #[test]
    fn a_parameter_stands_once_and_has_a_value() {
        let form = Form::parse(b"grant_type=client_credentials&scope=&resource=a&resource=b&x=1").unwrap();
        assert_eq!(form.one("grant_type"), Some("client_credentials"));
        assert_eq!(form.one("scope"), None);
        assert_eq!(form.all("resource").collect::<Vec<_>>(), ["a", "b"]);
        assert!(Form::parse(b"scope=a&scope=b").is_err());
        assert!(Form::parse(b"scope=&scope=b").is_err());
        assert!(Form::parse(b"scope=a&sc%6fpe=b").is_err());
    }
}
