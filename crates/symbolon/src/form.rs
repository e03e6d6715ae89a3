//! Request bodies of our endpoints (RFC 6749 appendix B): read strictly, so that nobody can read them otherwise.

use std::time::Duration;

use axum::body::Body;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use zeroize::Zeroizing;

use crate::http;

/// The parameters of a request. Those without a value count as absent (RFC 6749 §3.2).
pub(crate) struct Form(Vec<(Zeroizing<String>, Zeroizing<String>)>);

/// The body is no form, or its parameters are not what they may be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

const MAX_BODY: usize = 64 * 1024;
/// Each name is held against those before it.
const MAX_PARAMETERS: usize = 100;
/// How long a client may take for a body. These are small, and strangers send them.
const PATIENCE: Duration = Duration::from_secs(10);
/// Parameters that may stand more than once (RFC 8707 §2).
const REPEATABLE: [&str; 1] = ["resource"];

impl Form {
    pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Malformed> {
        let mut content_types = headers.get_all(CONTENT_TYPE).iter();
        let content_type = match (content_types.next(), content_types.next()) {
            (Some(one), None) => one.to_str().unwrap_or_default(),
            _ => "",
        };
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Malformed("the body is not application/x-www-form-urlencoded"));
        }
        let body = http::read_within(PATIENCE, body, MAX_BODY).await;
        let body = body.ok_or(Malformed("the body broke off, or is too large or too slow"))?;
        Self::parse(&body)
    }

    fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut parameters: Vec<(Zeroizing<String>, Zeroizing<String>)> = Vec::new();
        for pair in body.split(|&octet| octet == b'&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == MAX_PARAMETERS {
                return Err(Malformed("more than 100 parameters"));
            }
            let equals = pair.iter().position(|&octet| octet == b'=');
            let (name, value) = equals.map_or((pair, &[][..]), |at| (&pair[..at], &pair[at + 1..]));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                return Err(Malformed("a parameter is not percent-encoded UTF-8"));
            };
            let stands_already = parameters.iter().any(|(known, _)| *known == name);
            if stands_already && !REPEATABLE.contains(&name.as_str()) {
                return Err(Malformed("a parameter stands more than once"));
            }
            parameters.push((name, value));
        }
        parameters.retain(|(_, value)| !value.is_empty());
        Ok(Self(parameters))
    }

    /// The value of a parameter; of one that may be repeated, the first.
    pub(crate) fn one<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// Every value of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(known, _)| known.as_str() == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What a name or a value stands for: `+` for a space, `%` and two digits for an octet. None where one reader could
/// take it for something that another does not.
pub(crate) fn decode(encoded: &[u8]) -> Option<Zeroizing<String>> {
    let mut octets = Zeroizing::new(Vec::with_capacity(encoded.len()));
    let mut rest = encoded.iter().copied();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'+' => b' ',
            b'%' => hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?,
            octet => octet,
        });
    }
    let text = String::from_utf8(std::mem::take(&mut *octets)).ok()?;
    Some(Zeroizing::new(text))
}

fn hex_digit(octet: u8) -> Option<u8> {
    char::from(octet)
        .to_digit(16)
        .and_then(|digit| digit.try_into().ok())
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::Frame;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn refused(body: &[u8]) -> &'static str {
        let Err(Malformed(why)) = Form::parse(body) else {
            panic!("it was read");
        };
        why
    }

    // BR-02
    #[test]
    fn a_parameter_stands_once_and_has_a_value() {
        let form =
            Form::parse(b"grant_type=client_credentials&scope=&resource=a&resource=b&x=1&&y&z=a=b").unwrap();
        assert_eq!(form.one("grant_type"), Some("client_credentials"));
        assert_eq!(form.one("scope"), None);
        assert_eq!(form.one("y"), None);
        assert_eq!(form.one("z"), Some("a=b"));
        assert_eq!(form.all("resource").collect::<Vec<_>>(), ["a", "b"]);
        for twice in ["scope=a&scope=b", "scope=&scope=b", "scope=a&sc%6fpe=b", "a&a"] {
            assert_eq!(refused(twice.as_bytes()), "a parameter stands more than once");
        }
    }

    #[test]
    fn a_text_is_decoded_in_one_way_or_not_at_all() {
        let decoded = |text: &[u8]| decode(text).map(|text| text.to_string());
        assert_eq!(decoded(b"a+b%2Bc%c3%A9").as_deref(), Some("a b+cé"));
        assert_eq!(decoded(b"").as_deref(), Some(""));
        for ambiguous in [&b"%"[..], b"100%", b"%4", b"%zz", b"%+1", b"%ff", b"\xff", b"%c3"] {
            assert_eq!(decoded(ambiguous), None);
            assert_eq!(
                refused(&[b"a=", ambiguous].concat()),
                "a parameter is not percent-encoded UTF-8"
            );
        }
    }

    struct Endless;

    impl hyper::body::Body for Endless {
        type Data = hyper::body::Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
            Poll::Pending
        }
    }

    /// Time stands still unless nothing else happens: then it moves to what is waited for.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = [(CONTENT_TYPE, form)].into_iter().collect();
        let read = Form::read(&headers, Body::new(Endless));
        let read = tokio::time::timeout(Duration::from_secs(11), read).await;
        assert!(read.expect("it gave up").is_err());
    }

    /// Each name is held against all before it: without a limit 64 KiB of them would take seconds.
    #[test]
    fn a_form_has_a_hundred_parameters_at_the_most() {
        let form = |length: u8| {
            (1..=length)
                .map(|at| format!("{at}=1"))
                .collect::<Vec<_>>()
                .join("&")
        };
        assert!(Form::parse(form(100).as_bytes()).is_ok());
        assert_eq!(refused(form(101).as_bytes()), "more than 100 parameters");
        assert_eq!(
            refused("resource=a&".repeat(101).as_bytes()),
            "more than 100 parameters"
        );
    }

    proptest! {
        #[test]
        fn what_a_client_encodes_is_what_is_read(value in any::<String>(), other in any::<String>()) {
            let text = form_urlencoded::Serializer::new(String::new())
                .append_pair("value", &value)
                .append_pair("other", &other)
                .finish();
            let form = Form::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(form.one("value").unwrap_or_default(), value);
            prop_assert_eq!(form.one("other").unwrap_or_default(), other);
        }

        #[test]
        fn any_octets_are_a_form_or_refused(octets: Vec<u8>) {
            if let Ok(form) = Form::parse(&octets) {
                prop_assert!(form.0.len() <= MAX_PARAMETERS);
            }
        }
    }
}
