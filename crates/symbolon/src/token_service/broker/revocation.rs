//! The revocation endpoint: the authorization server says who asks, and what it cannot revoke is revoked here.

use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::{Response, StatusCode};
use symbolon_core::OpaqueToken;
use url::Url;

use super::Broker;
use super::request::Form;
use super::server::{Asked, pass, pass_changed};
use crate::http::Body;
use crate::revocations::Asker;
use crate::revoke::Found;
use crate::token_service::token::Refusal;

impl Broker {
    pub(super) async fn revocation(&self, asked: Asked, endpoint: &Url) -> Result<Response<Body>, Refusal> {
        let form = Form::read(&asked.parts, asked.body.clone())?;
        let client = form.unverified_client(&asked.parts.headers)?;
        let text = form.one("token").ok_or(Refusal::InvalidRequest("no token"))?;
        let found = match self.resolver.parse(text) {
            Ok(token) => {
                let found = self.revoker.find(&token).await?;
                Some((token, found))
            }
            Err(_) => None,
        };
        let whole = match &found {
            // It is not this server's to see, and its client of that name is another one.
            Some((_, Found::Live(jwt))) if jwt.issuer() != self.config.issuer => {
                return Err(Refusal::InvalidGrant("the token was issued by another server"));
            }
            Some((_, Found::Live(jwt))) => Some(form.with("token", jwt.expose())),
            _ => None,
        };
        // The server authenticates the caller (RV-04). It is asked once, about the token that it knows.
        let body = whole.as_ref().unwrap_or(&form).body();
        let answer = self.ask(&asked, endpoint, body).await?;
        if answer.status().is_server_error() {
            return Err(Refusal::Unavailable);
        }
        if !is_authenticated(&answer) {
            return Ok(pass(answer));
        }
        self.revoke(&form, &client.unwrap_or_default(), found).await?;
        Ok(done(answer))
    }

    async fn revoke(
        &self,
        form: &Form,
        client: &str,
        found: Option<(OpaqueToken, Found)>,
    ) -> Result<(), Refusal> {
        if let Some((_, Found::Live(jwt))) = &found
            && !jwt.is_of_client(client)
        {
            return Err(Refusal::InvalidGrant("the token was issued to another client"));
        }
        // A refresh token ends every token of its grant (RFC 7009 §2.1), and may look like an opaque one.
        let grant = match found {
            None | Some((_, Found::Unknown)) => {
                let refresh_token = form.one("token").unwrap_or_default();
                self.known_grant(self.ledger_keys("refresh_token", refresh_token))
                    .await?
            }
            Some(_) => None,
        };
        let is_allowed = match (&grant, &found) {
            (Some(_), _) => self.limits.allow_one(client, self.clock.elapsed()),
            (None, Some((_, found))) => self.limits.allow(client, found, self.clock.elapsed()),
            (None, None) => true,
        };
        if !is_allowed {
            tracing::warn!("a client revokes faster than it may");
            return Err(Refusal::Unavailable);
        }
        match (grant, found) {
            (Some(grant), _) => self.revoker.revoke_grant(grant, Asker::Client).await?,
            (None, Some((token, found))) => self.revoker.revoke(&token, &found, Asker::Client).await?,
            (None, None) => {}
        }
        Ok(())
    }
}

/// Whether the server has let the caller pass: it revoked, or it says only now that it does not revoke such tokens.
fn is_authenticated(answer: &Response<Bytes>) -> bool {
    let says_unsupported = || {
        symbolon_core::json::parse_object(answer.body()).is_ok_and(|members| {
            members.get("error").and_then(|error| error.as_str()) == Some("unsupported_token_type")
        })
    };
    answer.status().is_success() || (answer.status() == StatusCode::BAD_REQUEST && says_unsupported())
}

/// 200 and no body, whatever the server thought of the token; with its other fields, of which a browser wants some.
fn done(answer: Response<Bytes>) -> Response<Body> {
    let mut response = pass_changed(answer.map(|_| Bytes::new()));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().remove(CONTENT_TYPE);
    response
}
