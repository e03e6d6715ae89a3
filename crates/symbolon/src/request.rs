//! What must hold of a request before anything of it is believed.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use hyper::header::{ALLOW, EXPECT, HOST, HeaderMap, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode, Uri};

use crate::http::{self, Body};

/// Why a request is not looked at any further.
pub(crate) struct Refusal {
    status: StatusCode,
    why: &'static str,
}

impl Refusal {
    /// The connection is closed behind it: what follows cannot be told from what was meant.
    pub(crate) fn into_response(self) -> Response<Body> {
        http::and_close(if self.status == StatusCode::METHOD_NOT_ALLOWED {
            // RFC 9110 §15.5.6
            let mut response = http::status(self.status);
            let allowed = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
            response.headers_mut().insert(ALLOW, allowed);
            response
        } else {
            http::error(self.status, "invalid_request", self.why)
        })
    }
}

/// Longest request target. Beyond it: 414.
const MAX_TARGET: usize = 8 * 1024;
/// Longest single field. Beyond it: 431.
const MAX_FIELD: usize = 16 * 1024;
/// TRACE and its like would show the client what only the API may see, and CONNECT asks for a tunnel (GW-51). In any
/// case of letters: a resource server might know another one than we.
const REFUSED_METHODS: [&str; 3] = ["TRACE", "TRACK", "CONNECT"];

/// Whom it is for, if it is a request that everybody reads alike and that may be forwarded.
pub(crate) fn check<B>(request: &Request<B>) -> Result<Host, Refusal> {
    check_method(request.method())?;
    check_message(request)
}

/// Whom it is for, if it is a request that everybody reads alike.
pub(crate) fn check_message<B>(request: &Request<B>) -> Result<Host, Refusal> {
    check_sizes(request.uri(), request.headers())?;
    check_framing(request.headers())?;
    let host = Host::of(request.headers())?;
    if host.has(request.uri()) {
        Ok(host)
    } else {
        refuse("the request target is neither a path nor a URL at Host")
    }
}

fn check_method(method: &Method) -> Result<(), Refusal> {
    let is_refused = |refused: &&str| method.as_str().eq_ignore_ascii_case(refused);
    if REFUSED_METHODS.iter().any(is_refused) {
        return Err(Refusal {
            status: StatusCode::METHOD_NOT_ALLOWED,
            why: "the method is not forwarded",
        });
    }
    Ok(())
}

/// HT-07, as far as the listener has not seen to it.
fn check_sizes(target: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    if target
        .path_and_query()
        .is_some_and(|target| target.as_str().len() > MAX_TARGET)
    {
        return Err(Refusal {
            status: StatusCode::URI_TOO_LONG,
            why: "the request target is longer than 8 KiB",
        });
    }
    if headers
        .iter()
        .any(|(name, value)| name.as_str().len() + value.len() > MAX_FIELD)
    {
        return Err(Refusal {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            why: "a field is longer than 16 KiB",
        });
    }
    Ok(())
}

fn check_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    if !http::is_chunked_at_most(headers) {
        return refuse("Transfer-Encoding is not chunked alone");
    }
    // RFC 9110 §10.1.1. There is no other expectation, and a server that sees one here might wait for a body.
    let is_continue = |expectation: &[u8]| expectation.eq_ignore_ascii_case(b"100-continue");
    if !http::is_once_at_most(headers, &EXPECT, is_continue) {
        return Err(Refusal {
            status: StatusCode::EXPECTATION_FAILED,
            why: "Expect is not 100-continue alone",
        });
    }
    Ok(())
}

fn refuse<T>(why: &'static str) -> Result<T, Refusal> {
    Err(Refusal {
        status: StatusCode::BAD_REQUEST,
        why,
    })
}

/// The one `Host` of a request (RFC 9112 §3.2).
pub(crate) struct Host(HeaderValue);

impl Host {
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        match (hosts.next(), hosts.next()) {
            (Some(host), None) if name(host).is_some() => Ok(Self(host.clone())),
            (Some(_), None) => refuse("Host is no host"),
            _ => refuse("not exactly one Host"),
        }
    }

    /// As it came.
    pub(crate) fn field(&self) -> &HeaderValue {
        &self.0
    }

    /// Without the port, and as routes spell it but for the case of letters, so that no other spelling of the same
    /// host takes another route.
    pub(crate) fn name(&self) -> Cow<'_, str> {
        name(&self.0).unwrap_or_default()
    }

    /// Whether a request target is a path, or a URL at this host.
    fn has(&self, target: &Uri) -> bool {
        let is_here = |authority: &Authority| {
            let authority = authority.as_str().as_bytes();
            authority.eq_ignore_ascii_case(self.0.as_bytes())
        };
        match (target.scheme_str(), target.authority()) {
            (None, None) => true,
            (Some("http" | "https"), Some(authority)) => is_here(authority),
            _ => false,
        }
    }
}

/// None if it is no host (RFC 9110 §7.2).
fn name(host: &HeaderValue) -> Option<Cow<'_, str>> {
    let text = host.to_str().ok()?;
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (text, ""),
    };
    if port.len() > 5 || !port.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    if let Some(address) = name.strip_prefix('[') {
        let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]").into());
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._".contains(&octet);
    (!name.is_empty() && name.bytes().all(is_plain)).then_some(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_by_one_name() {
        for (written, wanted) in [
            ("api.example", Some("api.example")),
            ("api.example.", Some("api.example")),
            ("api.example:8443", Some("api.example")),
            ("api.example.:8443", Some("api.example")),
            ("api.example:", Some("api.example")),
            ("[::1]", Some("[::1]")),
            ("[0:0::0:1]:80", Some("[::1]")),
            ("[::1", None),
            ("[::1]80", None),
            ("[::1%eth0]", None),
            ("::1", None),
            ("api.example..", Some("api.example.")),
            (".", None),
            ("", None),
            ("user@api.example", None),
            ("api.example:80:80", None),
            ("api.example:http", None),
            ("api.example:123456", None),
            ("api%2eexample", None),
            ("api.example/", None),
        ] {
            let host = HeaderValue::from_static(written);
            assert_eq!(name(&host).as_deref(), wanted, "{written:?}");
        }
    }
}
