//! Everything else of the authorization server, at its own origin: streamed both ways, and left as it is.

use std::net::SocketAddr;

use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, LOCATION};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use serde_json::{Map, Value};
use symbolon_core::{base64url, json};
use url::Url;

use super::places::{Endpoints, Place};
use super::request::Form;
use super::server::{Asked, MAX_ANSWER, TIMEOUT, ask_for_plain, pass_changed};
use super::{Broker, Mode};
use crate::forward::{self, RequestBody};
use crate::http::{self, Body};
use crate::keys::Metadata;
use crate::token_service::token::Refusal;

impl Broker {
    /// Passes a request on that is not ours to act on.
    pub(super) async fn pass_through(
        &self,
        place: Place,
        endpoints: &Endpoints,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let Mode::Origin { public_url } = &self.config.mode else {
            return Ok(http::status(StatusCode::NOT_FOUND));
        };
        // Wherever it stands: servers have further pages that begin a log-in.
        check_response_type(
            request.uri().query().unwrap_or_default().as_bytes(),
            endpoints.has_front_channel,
        )?;
        let mut request = if place == Place::Authorization && request.method() == Method::POST {
            let Asked { parts, body, .. } = Asked::of(peer, request).await?;
            // Read as strictly as by whoever acts upon it.
            let form = Form::read(&parts, body)?;
            check_response_type(&form.body(), endpoints.has_front_channel)?;
            Request::from_parts(parts, RequestBody::full(form.body()))
        } else {
            let (parts, body) = request.into_parts();
            let body = RequestBody::of_client(body).await;
            let body = body.map_err(|_| Refusal::InvalidRequest("the body broke off"))?;
            Request::from_parts(parts, body)
        };
        // Its own token is the server's to see wherever it is brought (BR-16); of what is none it says so itself.
        if http::is_once_at_most(request.headers(), &AUTHORIZATION, |_| true)
            && let Some(whole) = self.whole_authorization(request.headers()).await?
        {
            request.headers_mut().insert(AUTHORIZATION, whole);
        }
        self.make_ours(request.headers_mut(), peer)
            .ok_or(Refusal::Broken)?;
        *request.uri_mut() = self
            .at_server(request.uri())
            .ok_or(Refusal::InvalidRequest("the request target is no path"))?;
        *request.version_mut() = Version::HTTP_11;
        let is_document = place == Place::Metadata && request.method() == Method::GET;
        if is_document {
            ask_for_plain(request.headers_mut());
        }
        let answer = self.http.forward(request, TIMEOUT).await.map_err(|error| {
            tracing::warn!(%error, "the authorization server did not answer");
            Refusal::from(error)
        })?;
        if is_document && answer.status().is_success() {
            return self.metadata(public_url, answer).await;
        }
        let mut answer = answer.map(Body::Incoming);
        forward::drop_hop_by_hop(answer.headers_mut());
        if hands_out_token(&answer) {
            tracing::error!("the authorization server sent an access token through the browser");
            return Err(Refusal::FrontChannel);
        }
        Ok(answer)
    }

    fn at_server(&self, uri: &Uri) -> Option<Uri> {
        let server: Uri = self.config.authorization_server.as_str().parse().ok()?;
        let root = PathAndQuery::from_static("/");
        forward::at_server(&server, uri.path_and_query().unwrap_or(&root))
    }

    /// The same document, without what would get past us: tokens through the browser (BR-14), endpoints elsewhere for
    /// clients with a certificate, and the server's signature over it (MD-02). What it names from now on is acted at
    /// from now on.
    async fn metadata(
        &self,
        public_url: &Url,
        answer: Response<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let (parts, body) = answer.into_parts();
        let text = http::read_within(TIMEOUT, axum::body::Body::new(body), MAX_ANSWER).await;
        let text = text.ok_or(Refusal::ServerUnavailable { timeout: false })?;
        let refuse = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "the authorization server's metadata cannot be passed on");
            Refusal::BadGateway("the authorization server's metadata cannot be read, or name another origin")
        };
        let strict = Metadata(json::parse_object(&text).map_err(|error| refuse(&error))?);
        if strict.text("issuer") != Some(self.config.issuer.as_str()) {
            return Err(refuse(&"another issuer's"));
        }
        let endpoints = self.learn(&[strict]).map_err(|error| refuse(&error))?;
        let Ok(Value::Object(mut members)) = serde_json::from_slice(&text) else {
            return Err(refuse(&"no object"));
        };
        members.remove("signed_metadata");
        name_introspection(&mut members, public_url, endpoints.introspection());
        if let Some(Value::Array(types)) = members.get_mut("response_types_supported") {
            types.retain(|response_type| !response_type.as_str().is_some_and(names_token));
        }
        if let Some(Value::Array(grants)) = members.get_mut("grant_types_supported") {
            grants.retain(|grant| grant != "implicit");
        }
        if let Some(Value::Object(aliases)) = members.get_mut("mtls_endpoint_aliases") {
            aliases.retain(|_, url| {
                let url = url.as_str().and_then(|url| Url::parse(url).ok());
                url.is_some_and(|url| url.origin() == public_url.origin())
            });
        }
        let text = Bytes::from(Value::Object(members).to_string());
        Ok(pass_changed(Response::from_parts(parts, text)))
    }
}

/// Names our introspection endpoint where the server names none.
fn name_introspection(members: &mut Map<String, Value>, public_url: &Url, path: Option<&str>) {
    let url = path.and_then(|path| public_url.join(path).ok());
    if let (Some(url), false) = (url, members.contains_key("introspection_endpoint")) {
        members.insert("introspection_endpoint".into(), url.as_str().into());
        let methods = ["client_secret_basic", "client_secret_post"];
        members
            .entry("introspection_endpoint_auth_methods_supported")
            .or_insert_with(|| methods.as_slice().into());
    }
}

/// Refuses what asks for an access token through the browser (RFC 6749 §4.2, RFC 9700 §2.1.2): in the parameters or in
/// a request object (RFC 9101), which stands above them. Where the server gives such tokens at all, a request object
/// that cannot be read here is refused too; one that was pushed (RFC 9126) was read when it was.
fn check_response_type(form: &[u8], has_front_channel: bool) -> Result<(), Refusal> {
    for (name, value) in form_urlencoded::parse(form) {
        let is_refused = match &*name {
            "response_type" => names_token(&value),
            "request" => match response_type_of(&value) {
                Ok(response_type) => response_type.is_some_and(|text| names_token(&text)),
                Err(Unreadable) => has_front_channel,
            },
            "request_uri" => has_front_channel && !value.starts_with("urn:"),
            _ => false,
        };
        if is_refused {
            return Err(Refusal::FrontChannel);
        }
    }
    Ok(())
}

struct Unreadable;

/// What a request object asks for, without regard to who signed it.
fn response_type_of(request_object: &str) -> Result<Option<String>, Unreadable> {
    let mut parts = request_object.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Unreadable);
    };
    let payload = base64url::decode(payload).ok_or(Unreadable)?;
    match json::parse_object(&payload)
        .map_err(|_| Unreadable)?
        .get("response_type")
    {
        None => Ok(None),
        Some(json::Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Unreadable),
    }
}

/// Whether a `response_type` asks for an access token.
pub(super) fn names_token(response_type: &str) -> bool {
    response_type
        .split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .any(|part| part.eq_ignore_ascii_case("token"))
}

/// Whether a redirect carries an access token, as a parameter or in a signed response (JARM).
fn hands_out_token<B>(answer: &Response<B>) -> bool {
    let names_one = |(name, value): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)| {
        let in_response = || {
            let payload = value.split('.').nth(1).and_then(base64url::decode);
            payload.is_some_and(|payload| {
                json::parse_object(&payload).is_ok_and(|members| members.contains_key("access_token"))
            })
        };
        name == "access_token" || (name == "response" && in_response())
    };
    answer.headers().get_all(LOCATION).iter().any(|location| {
        let parts = location.as_bytes().split(|octet| b"?#".contains(octet)).skip(1);
        parts.flat_map(form_urlencoded::parse).any(names_one)
    })
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    // BR-14
    #[test]
    fn a_token_through_the_browser_is_asked_for_in_vain() {
        let object = |payload: &str| format!("request=e30.{}.c2ln", base64url::encode(payload.as_bytes()));
        let passes =
            |form: &str, has_front_channel| check_response_type(form.as_bytes(), has_front_channel).is_ok();
        for form in [
            "client_id=a&response_type=id_token%20token",
            "response_type=code&response_type=token",
            "response_type=code%09Token",
            &object(r#"{"response_type":"token"}"#),
            &format!(
                "response_type=code&{}",
                object(r#"{"response_type":"code token"}"#)
            ),
        ] {
            assert!(!passes(form, true) && !passes(form, false), "{form}");
        }
        for form in [
            "response_type=code%20id_token&state=token",
            "request_uri=urn:ietf:params:oauth:request_uri:1",
            &object(r#"{"response_type":"code"}"#),
            &object("{}"),
        ] {
            assert!(passes(form, true) && passes(form, false), "{form}");
        }
        for form in [
            "request=e30.AA.BB.CC.DD",
            "request=e30.%21.AA",
            "request_uri=https://client.example/request",
            &object(r#"{"response_type":["token"]}"#),
            &object(r#"{"response_type":"code","response_type":"token"}"#),
        ] {
            assert!(!passes(form, true) && passes(form, false), "{form}");
        }
    }

    // BR-14
    #[test]
    fn a_redirect_with_a_token_is_told_from_all_others() {
        let to = |location: &[u8]| {
            let location = HeaderValue::from_bytes(location).unwrap();
            Response::builder().header(LOCATION, location).body(()).unwrap()
        };
        let signed = |payload: &str| {
            let payload = base64url::encode(payload.as_bytes());
            format!("https://app.example/cb?response=e30.{payload}.c2ln")
        };
        assert!(hands_out_token(&to(
            b"https://app.example/cb#state=1&access_token=x"
        )));
        assert!(hands_out_token(&to(
            b"https://app.example/cb#state=\xc3\xa9&access%5ftoken=x"
        )));
        assert!(hands_out_token(&to(signed(r#"{"access_token":"x"}"#).as_bytes())));
        assert!(!hands_out_token(&to(b"https://app.example/cb?code=access_token")));
        assert!(!hands_out_token(&to(signed(r#"{"code":"x"}"#).as_bytes())));
    }
}
