//! The revocation endpoint: the authorization server says who asks, and what it cannot revoke is revoked here.

use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};
use symbolon_core::VerifiedJwt;
use url::Url;

use super::Broker;
use super::request::Form;
use super::server::{Asked, pass};
use crate::http::{self, Body};
use crate::publish::PublishError;
use crate::revocations::Asker;
use crate::revoke::Found;
use crate::token_service::token::Refusal;

impl Broker {
    pub(super) async fn revocation(&self, asked: Asked, endpoint: &Url) -> Result<Response<Body>, Refusal> {
        let form = Form::read(&asked.parts.headers, asked.body.clone());
        let form = form.ok_or(Refusal::InvalidRequest("a parameter stands more than once"))?;
        let text = form.one("token").ok_or(Refusal::InvalidRequest("no token"))?;
        let token = self.resolver.parse(text).ok();
        let found = match &token {
            Some(token) => Some((token, self.revoker.find(token).await?)),
            None => None,
        };
        // The server authenticates the caller (RV-04). It is asked once, about the token that it knows.
        let whole = match &found {
            Some((_, Found::Live(jwt))) => Some(form.with("token", jwt.expose())),
            _ => None,
        };
        let answer = self
            .ask(&asked, endpoint, whole.as_ref().unwrap_or(&form).body())
            .await?;
        if !is_authenticated(&answer) {
            return if answer.status().is_server_error() {
                Err(Refusal::Unavailable)
            } else {
                Ok(pass(answer))
            };
        }
        match found {
            Some((_, Found::Live(jwt))) if !is_of(&jwt, &form, &asked.parts.headers) => {
                return Err(Refusal::InvalidGrant("the token was issued to another client"));
            }
            Some((token, found)) => {
                let client = form.unverified_client(&asked.parts.headers).unwrap_or_default();
                if !self.limits.allow(&client, &found, self.clock.elapsed()) {
                    tracing::warn!("a client revokes faster than it may");
                    return Err(Refusal::Unavailable);
                }
                self.revoker.revoke(token, &found, Asker::Client).await?;
            }
            None => self.revoke_grant_of(&form).await?,
        }
        Ok(http::status(StatusCode::OK))
    }

    /// A refresh token ends every token of its grant (RFC 7009 §2.1).
    async fn revoke_grant_of(&self, form: &Form) -> Result<(), Refusal> {
        let Some(token) = form.one("token") else {
            return Ok(());
        };
        for secret in self.secrets.iter() {
            let key = secret.ledger_key("refresh_token", &self.config.issuer, token);
            let known = self.store.begin(Some(key)).await.map_err(PublishError::Store)?;
            if let Some(grant) = known.grant {
                self.revoker.revoke_grant(grant, Asker::Client).await?;
            }
        }
        Ok(())
    }
}

/// Whether the token was issued to the client that asks.
fn is_of(jwt: &VerifiedJwt, form: &Form, headers: &HeaderMap) -> bool {
    form.unverified_client(headers)
        .is_some_and(|client| jwt.is_of_client(&client))
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
