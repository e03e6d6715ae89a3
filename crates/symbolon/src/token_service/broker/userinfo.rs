//! Where clients ask about the user: the authorization server sees the token that it issued.

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use url::Url;

use super::Broker;
use super::server::{Asked, pass};
use crate::http::{self, Body};
use crate::resolve::Unresolved;
use crate::token_service::token::Refusal;

impl Broker {
    pub(super) async fn userinfo(&self, mut asked: Asked, endpoint: &Url) -> Result<Response<Body>, Refusal> {
        let headers = &mut asked.parts.headers;
        match self.whole_authorization(headers).await? {
            Some(whole) => headers.insert(AUTHORIZATION, whole),
            None => return Ok(invalid_token()),
        };
        let body = asked.body.clone();
        Ok(pass(self.ask(&asked, endpoint, body).await?))
    }

    /// `Authorization` with the JWT in the place of the opaque token, after the gateway's decision; none if the token
    /// is not one.
    async fn whole_authorization(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Refusal> {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else {
            return Ok(None);
        };
        let Some((scheme, text)) = field.to_str().ok().and_then(|field| field.split_once(' ')) else {
            return Ok(None);
        };
        let Ok(token) = self.resolver.parse(text.trim_start()) else {
            return Ok(None);
        };
        let jwt = match self.resolver.resolve(&token).await {
            Ok(jwt) => jwt,
            Err(Unresolved::Unavailable(outage)) => return Err(outage.into()),
            Err(Unresolved::Invalid(_)) => return Ok(None),
        };
        let mut whole = HeaderValue::from_str(&format!("{scheme} {}", jwt.expose())).ok();
        if let Some(whole) = &mut whole {
            whole.set_sensitive(true);
        }
        Ok(whole)
    }
}

fn invalid_token() -> Response<Body> {
    let mut response = http::error(
        StatusCode::UNAUTHORIZED,
        "invalid_token",
        "the access token is not, or no longer, one",
    );
    let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
    response
        .headers_mut()
        .insert(hyper::header::WWW_AUTHENTICATE, challenge);
    response
}
