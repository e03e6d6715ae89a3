//! Single values: what is written, and what it means. Each reader has one text on what to write, which also stands
//! where nothing is written.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use symbolon_core::base64url;
use toml_span::Value;
use url::Url;

use crate::keys::is_loopback;

use super::table::{Read, Reading, Written};

/// An issuer identifier: compared as text (RFC 8414 §3.3), served as a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Issuer {
    pub(super) text: String,
    pub(super) url: Url,
}

/// One of the texts in `choices`; those in `later` have a meaning to come.
pub(super) fn one_of<T: Copy>(choices: &[(&'static str, T)], later: &[&'static str]) -> impl Read<T> {
    move |value| {
        let text = value.and_then(Value::as_str);
        if let Some(&(_, choice)) = choices.iter().find(|(name, _)| Some(*name) == text) {
            return Ok(choice);
        }
        let write = format!("write {}", alternatives(choices.iter().map(|(name, _)| *name)));
        match later.iter().find(|name| Some(**name) == text) {
            Some(name) => Err(format!("\"{name}\" is not there yet: {write}").into()),
            None => Err(write.into()),
        }
    }
}

/// A span of time between two others.
pub(super) fn duration(least: &'static str, most: &'static str) -> impl Read<Duration> {
    move |value| {
        let write = format!("write a duration from \"{least}\" to \"{most}\", in ms, s, m or h");
        let allowed = amount(least, MILLISECONDS)..=amount(most, MILLISECONDS);
        let written = value.and_then(|value| amount(value.as_str()?, MILLISECONDS));
        let millis = written.filter(|_| allowed.contains(&written)).ok_or(write)?;
        Ok(Duration::from_millis(millis))
    }
}

/// A number of octets.
pub(super) fn size(value: Written<'_>) -> Reading<usize> {
    let number = |value: &Value<'_>| match value.as_integer() {
        Some(octets) => u64::try_from(octets).ok(),
        None => amount(value.as_str()?, OCTETS),
    };
    let octets = value.and_then(|value| usize::try_from(number(value)?).ok());
    let write = "write a size, as \"512KiB\", \"64MiB\", \"1GiB\" or a number of octets";
    octets.filter(|&octets| octets > 0).ok_or(write.into())
}

/// A whole number in a range.
pub(super) fn count(range: RangeInclusive<usize>) -> impl Read<usize> {
    move |value| {
        let number = value.and_then(|value| usize::try_from(value.as_integer()?).ok());
        let write = || format!("write a number from {} to {}", range.start(), range.end()).into();
        number.filter(|number| range.contains(number)).ok_or_else(write)
    }
}

/// The name of a file or folder.
pub(super) fn path(value: Written<'_>) -> Reading<String> {
    octets(value, "write the name of a file or folder", |_| true)
}

/// The name of an environment variable.
pub(super) fn variable(value: Written<'_>) -> Reading<String> {
    octets(value, "write the name of an environment variable", |_| true)
}

/// What challenges put between quotes (RFC 9110 §5.6.4).
pub(super) fn realm(value: Written<'_>) -> Reading<String> {
    octets(value, "write printable ASCII without \" and \\", |octet| {
        matches!(octet, b' '..=b'~') && !matches!(octet, b'"' | b'\\')
    })
}

/// A field name (RFC 9110 §5.6.2), in lower case.
pub(super) fn field_name(value: Written<'_>) -> Reading<String> {
    let name = octets(value, "write a field name, as \"x-tenant\"", |octet| {
        octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
    });
    name.map(|name| name.to_ascii_lowercase())
}

/// The name of a claim that may say what no registered claim of RFC 7519 §4.1 does: whose `sub` it is, users choose.
pub(super) fn claim(value: Written<'_>) -> Reading<String> {
    const REGISTERED: [&str; 6] = ["iss", "sub", "aud", "exp", "nbf", "iat"];
    let write = "write the name of a claim, as \"azp\"; not one of iss, sub, aud, exp, nbf, iat";
    let name = octets(value, write, |octet| octet.is_ascii_graphic())?;
    if REGISTERED.contains(&name.as_str()) {
        return Err(write.into());
    }
    Ok(name)
}

/// The value of a claim.
pub(super) fn claim_value(value: Written<'_>) -> Reading<String> {
    octets(value, "write the claim's value, as \"Bearer\"", |octet| {
        matches!(octet, b' '..=b'~')
    })
}

/// What a token is for; an `aud` value (RFC 7519 §4.1.3).
pub(super) fn audience(value: Written<'_>) -> Reading<String> {
    let write = "write an audience without white space, as \"https://api.example.com/orders\"";
    octets(value, write, |octet| !matches!(octet, 0..=b' ' | 0x7f))
}

/// A scope-token (RFC 6749 §3.3).
pub(super) fn scope(value: Written<'_>) -> Reading<String> {
    let write = "write one scope of printable ASCII without space, \" and \\";
    octets(
        value,
        write,
        |octet| matches!(octet, b'!' | b'#'..=b'[' | b']'..=b'~'),
    )
}

/// A client identifier (RFC 6749 §A.1). Not every client encodes it before it puts it in front of a `:`.
pub(super) fn client_id(value: Written<'_>) -> Reading<String> {
    let write = "write a client identifier of printable ASCII without \":\"";
    octets(value, write, |octet| matches!(octet, b' '..=b'9' | b';'..=b'~'))
}

/// The hash of a client's secret.
pub(super) fn sha256(value: Written<'_>) -> Reading<[u8; 32]> {
    let write = "write the SHA-256 in base64url that `symbolon keys client` prints, 43 characters";
    text(value, write, base64url::decode_array)
}

/// Where a role listens.
pub(super) fn address(value: Written<'_>) -> Reading<SocketAddr> {
    let write = "write an IP address and a port, as \"127.0.0.1:4600\"";
    text(value, write, |text| text.parse().ok())
}

/// A network of trusted proxies.
pub(super) fn network(value: Written<'_>) -> Reading<IpNet> {
    let write = "write a network by its first address and prefix length, as \"10.0.0.0/8\"";
    let network = text(value, write, |text| {
        let network: IpNet = text.parse().ok()?;
        (network.trunc() == network).then_some(network)
    })?;
    // Peers are known by their IPv4 addresses.
    match network {
        IpNet::V6(network) if network.addr().to_ipv4_mapped().is_some() => {
            Err("write the IPv4 network, as \"10.0.0.0/8\"".into())
        }
        network => Ok(network),
    }
}

/// Yes or no.
pub(super) fn truth(value: Written<'_>) -> Reading<bool> {
    value.and_then(Value::as_bool).ok_or("write true or false".into())
}

/// An issuer identifier (RFC 8414 §2). Tokens over http are anybody's, so that is for one's own machine.
pub(super) fn issuer(value: Written<'_>) -> Reading<Issuer> {
    let (text, url) = text(value, "write an https URL, as \"https://id.example.com\"", url)?;
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err("write an https URL: http is for loopback hosts only".into());
    }
    if !is_plain(&url) {
        return Err("write the URL without user, query and fragment".into());
    }
    Ok(Issuer { text, url })
}

/// The origin that clients know a server under.
pub(super) fn public_url(value: Written<'_>) -> Reading<Url> {
    let Issuer { url, .. } = issuer(value)?;
    if url.path() != "/" {
        return Err("write the URL without a path: every path there is the authorization server's".into());
    }
    Ok(url)
}

/// Where requests are forwarded to. A path here would be a second place that says what clients may reach.
pub(super) fn resource_server(value: Written<'_>) -> Reading<Url> {
    let write = "write an http or https URL, as \"http://orders:3000\"";
    server(
        value,
        write,
        "write the path in the route, and the URL without one",
    )
}

/// Where an authorization server is reached. Its paths are those of its public URLs.
pub(super) fn authorization_server(value: Written<'_>) -> Reading<Url> {
    let write = "write an http or https URL, as \"http://keycloak:8080\"";
    server(
        value,
        write,
        "write the URL without a path: the server's paths are those of its public URLs",
    )
}

/// Where a JWK Set stands. It is used as written.
pub(super) fn jwks(value: Written<'_>) -> Reading<Url> {
    let write = "write an http or https URL, as \"https://id.example.com/jwks\"";
    let (_, url) = text(value, write, url)?;
    if has_user(&url) || url.fragment().is_some() {
        return Err("write the URL without user and fragment".into());
    }
    Ok(url)
}

/// An endpoint that is asked with a secret. Used as written; a query that stands there stays.
pub(super) fn endpoint(value: Written<'_>) -> Reading<Url> {
    let write = "write an http or https URL, as \"https://id.example.com/introspect\"";
    let (_, url) = text(value, write, url)?;
    if has_user(&url) || url.fragment().is_some() {
        return Err("write the URL without user and fragment".into());
    }
    Ok(url)
}

/// A `Host` as requests name it, without port. Only the spelling that URLs normalize to would ever be met.
pub(super) fn host(value: Written<'_>) -> Reading<String> {
    text(
        value,
        "write one host in lower case without port, as \"api.example.com\"",
        |text| {
            let url = Url::parse(&format!("http://{text}/")).ok()?;
            // `*` is lawful in a host and would be read as a wildcard; requests are known without the last dot.
            (url.host_str() == Some(text) && !text.contains('*') && !text.ends_with('.'))
                .then(|| text.to_owned())
        },
    )
}

/// An origin as browsers send it (RFC 6454 §6.2).
pub(super) fn origin(value: Written<'_>) -> Reading<String> {
    text(
        value,
        "write one exact origin, as \"https://app.example.com\"",
        |text| {
            let url = Url::parse(text).ok().filter(is_http)?;
            (url.origin().ascii_serialization() == text && !text.contains('*')).then(|| text.to_owned())
        },
    )
}

/// A server of Redis or Valkey; the port that it has if none is written.
#[cfg(feature = "redis")]
pub(super) fn redis(value: Written<'_>, port: u16) -> Reading<crate::store::redis::Address> {
    let write = "write an address, as \"redis://127.0.0.1:6379\", or with rediss:// for TLS";
    let url = text(value, write, |text| {
        let url = text.is_ascii().then(|| Url::parse(text).ok())??;
        let is_one = matches!(url.scheme(), "redis" | "rediss") && url.has_host();
        (is_one && text.bytes().all(|octet| octet.is_ascii_graphic())).then_some(url)
    })?;
    if has_user(&url) {
        return Err("write user and password as `user` and `password`".into());
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("write the address alone: the first database is used".into());
    }
    let host = url.host_str().unwrap_or_default();
    Ok(crate::store::redis::Address {
        host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        port: url.port().unwrap_or(port),
        tls: url.scheme() == "rediss",
    })
}

/// What keys begin with.
#[cfg(feature = "redis")]
pub(super) fn prefix(value: Written<'_>) -> Reading<String> {
    octets(value, "write small letters, digits and -", |octet| {
        octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-'
    })
}

/// The name of a user of a store's server.
#[cfg(feature = "redis")]
pub(super) fn user(value: Written<'_>) -> Reading<String> {
    octets(value, "write the name of a user, without white space", |octet| {
        octet.is_ascii_graphic()
    })
}

/// The name that Sentinels know a primary by.
#[cfg(feature = "redis")]
pub(super) fn master(value: Written<'_>) -> Reading<String> {
    octets(
        value,
        "write the name that the Sentinels know the primary by",
        |octet| octet.is_ascii_graphic(),
    )
}

/// A path prefix in the one spelling that requests are normalized to.
pub(super) fn route_path(value: Written<'_>) -> Reading<String> {
    let write = "write a path that starts with \"/\" and does not end with it, of letters, digits and \
                 -._~!$&'()+,=:@, without empty segments and dots at the end of one";
    text(value, write, |text| {
        let segments = text.strip_prefix('/')?;
        let canonical = segments.is_empty() || segments.split('/').all(is_segment);
        canonical.then(|| text.to_owned())
    })
}

/// The URL of a server.
fn server(value: Written<'_>, write: &'static str, without_path: &'static str) -> Reading<Url> {
    let (_, url) = text(value, write, url)?;
    if !is_plain(&url) {
        return Err("write the URL without user, query and fragment".into());
    }
    if url.path() != "/" {
        return Err(without_path.into());
    }
    Ok(url)
}

/// What `read` makes of a text.
fn text<T>(value: Written<'_>, write: &'static str, read: impl FnOnce(&str) -> Option<T>) -> Reading<T> {
    value.and_then(Value::as_str).and_then(read).ok_or(write.into())
}

/// A text of some length, of allowed octets only.
fn octets(value: Written<'_>, write: &'static str, is_allowed: impl Fn(u8) -> bool) -> Reading<String> {
    text(value, write, |text| {
        (!text.is_empty() && text.bytes().all(is_allowed)).then(|| text.to_owned())
    })
}

/// `"a", "b" or "c"`.
fn alternatives(names: impl Iterator<Item = &'static str>) -> String {
    let quoted: Vec<_> = names.map(|name| format!("\"{name}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// A number with a unit, in the smallest unit.
fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|character: char| !character.is_ascii_digit())?);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

const MILLISECONDS: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60 * 1000), ("h", 60 * 60 * 1000)];
const OCTETS: &[(&str, u64)] = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// A URL whose text says what it is: the parser would repair white space, backslashes and missing slashes.
fn url(text: &str) -> Option<(String, Url)> {
    let as_written = text
        .bytes()
        .all(|octet| octet.is_ascii_graphic() && octet != b'\\');
    let url = Url::parse(text).ok().filter(is_http)?;
    (as_written && text.contains("://")).then(|| (text.to_owned(), url))
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

fn is_plain(url: &Url) -> bool {
    !has_user(url) && url.query().is_none() && url.fragment().is_none()
}

fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// A path segment of octets that nobody percent-encodes (RFC 3986 §3.3), without `;`, which some servers cut at, `*`,
/// which would be read as a wildcard, and a dot at its end, which some servers drop.
fn is_segment(segment: &str) -> bool {
    let is_allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@".contains(&octet);
    !segment.is_empty() && !segment.ends_with('.') && segment.bytes().all(is_allowed)
}
