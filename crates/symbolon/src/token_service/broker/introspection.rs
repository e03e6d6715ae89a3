//! The introspection endpoint: callers of ours are answered here, and everybody else by the authorization server, which
//! sees the token as it came.

use axum::body::Body as RequestBody;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Response;
use hyper::header::AUTHORIZATION;
use url::Url;

use super::Broker;
use super::request::client_of_basic;
use super::server::{Asked, pass};
use crate::http::Body;
use crate::token_service::token::Refusal;

impl Broker {
    pub(super) async fn introspection(
        &self,
        mut asked: Asked,
        endpoint: Option<&Url>,
    ) -> Result<Response<Body>, Refusal> {
        if named_in(&asked).iter().any(|id| self.introspection.knows(id)) {
            let body = RequestBody::from(asked.body);
            return Ok(self.introspection.answer(&asked.parts.headers, body).await);
        }
        let endpoint = endpoint.ok_or(Refusal::InvalidClient)?;
        // A client that authenticates with an access token does so with that server's own. The token that it asks
        // about is never made whole: the server would tell its claims to whoever brings it (BR-16).
        if let Some(whole) = self.whole_authorization(&asked.parts.headers).await? {
            asked.parts.headers.insert(AUTHORIZATION, whole);
        }
        let body = asked.body.clone();
        Ok(pass(self.ask(&asked, endpoint, body).await?))
    }
}

/// Every name under which a request could be one of our callers'. It is answered here if it could be: their secrets are
/// not the server's to see.
fn named_in(asked: &Asked) -> Vec<String> {
    let field = asked.parts.headers.get(AUTHORIZATION);
    let field = field.and_then(|field| field.to_str().ok()).unwrap_or_default();
    let in_body = form_urlencoded::parse(&asked.body)
        .filter(|(name, _)| name == "client_id")
        .map(|(_, id)| id.into_owned());
    let mut names: Vec<_> = in_body.collect();
    names.extend(client_of_basic(field));
    names.extend(as_written(field));
    names
}

/// The name in a Basic field, of a client that does not encode it first.
fn as_written(field: &str) -> Option<String> {
    let (_, value) = field.split_once(' ')?;
    let joined = STANDARD.decode(value.trim()).ok()?;
    let id = joined.split(|octet| *octet == b':').next()?;
    String::from_utf8(id.to_vec()).ok()
}
