//! Where clients ask about the user: the authorization server sees the token that it issued.

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
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
        if !headers.contains_key(AUTHORIZATION) {
            // Nothing is said of a token where none was sent (RFC 6750 §3.1).
            return Ok(challenge(http::status(StatusCode::UNAUTHORIZED), "Bearer"));
        }
        let Some(whole) = self.whole_authorization(headers).await? else {
            let why = "the access token is not, or no longer, one";
            let response = http::error(StatusCode::UNAUTHORIZED, "invalid_token", why);
            return Ok(challenge(response, "Bearer error=\"invalid_token\""));
        };
        headers.insert(AUTHORIZATION, whole);
        let body = asked.body.clone();
        Ok(pass(self.ask(&asked, endpoint, body).await?))
    }

    /// `Authorization` with the JWT in the place of the opaque token, after the gateway's decision; none if the token
    /// is not one, or another issuer's, whose JWT is not this server's to see.
    pub(super) async fn whole_authorization(
        &self,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, Refusal> {
        let field = headers.get(AUTHORIZATION).and_then(|field| field.to_str().ok());
        let Some((scheme, text)) = field.and_then(|field| field.split_once(' ')) else {
            return Ok(None);
        };
        if !["bearer", "dpop"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
        {
            return Ok(None);
        }
        let Ok(token) = self.resolver.parse(text.trim_start_matches(' ')) else {
            return Ok(None);
        };
        let jwt = match self.resolver.resolve(&token).await {
            Ok(jwt) if jwt.issuer() == self.config.issuer => jwt,
            Err(Unresolved::Unavailable(outage)) => return Err(outage.into()),
            Ok(_) | Err(Unresolved::Invalid(_)) => return Ok(None),
        };
        let mut whole = HeaderValue::from_str(&format!("{scheme} {}", jwt.expose())).ok();
        if let Some(whole) = &mut whole {
            whole.set_sensitive(true);
        }
        Ok(whole)
    }
}

fn challenge(mut response: Response<Body>, challenge: &'static str) -> Response<Body> {
    let challenge = HeaderValue::from_static(challenge);
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}
