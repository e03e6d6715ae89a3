//! The token endpoint: a request goes through unchanged, and of its answer the access token is exchanged.

use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, HeaderValue, PRAGMA};
use hyper::{Response, StatusCode};
use symbolon_core::{GrantId, Rejection, UnverifiedJwt, VerifiedJwt};
use url::Url;

use super::answer::TokenAnswer;
use super::request::Form;
use super::server::{Asked, pass};
use super::{Broker, IdToken, Unsplittable};
use crate::http::Body;
use crate::publish::PublishError;
use crate::resolve::Unresolved;
use crate::revocations::Asker;
use crate::store::Begun;
use crate::token_service::token::Refusal;

impl Broker {
    pub(super) async fn token(&self, asked: Asked, endpoint: &Url) -> Result<Response<Body>, Refusal> {
        let form = Form::read(&asked.parts.headers, asked.body.clone());
        let form = form.ok_or(Refusal::InvalidRequest("a parameter stands more than once"))?;
        if form.one("grant_type") == Some("password") && !self.config.allows_password {
            return Err(Refusal::UnsupportedGrantType);
        }
        // Before the server is asked: a code that is spent there cannot be spent again when the store is back.
        let begun = self.begin(&form).await?;
        let form = self.made_whole(form).await?;
        let answer = self.ask(&asked, endpoint, form.body()).await?;
        if answer.status() == StatusCode::OK {
            return self.exchange(&form, begun, answer).await;
        }
        self.punish_reuse(&form, begun, &answer).await;
        Ok(pass(answer))
    }

    /// The mark of the request, and the grant of the code or refresh token that it brings.
    async fn begin(&self, form: &Form) -> Result<Begun, Refusal> {
        let mut begun = self.publisher.begin().await?;
        for (kind, value) in presented(form) {
            for secret in self.secrets.iter() {
                let key = secret.ledger_key(kind, &self.config.issuer, value);
                let known = self.store.begin(Some(key)).await.map_err(PublishError::Store)?;
                begun.grant = begun.grant.or(known.grant);
            }
        }
        if begun
            .grant
            .is_some_and(|grant| self.revoker.is_grant_revoked(grant))
        {
            return Err(Refusal::InvalidGrant("what was granted has been revoked"));
        }
        Ok(begun)
    }

    /// Tokens that clients bring for exchange (RFC 8693 §2.1) are made whole, after the same decision as at the
    /// gateway (BR-16).
    async fn made_whole(&self, form: Form) -> Result<Form, Refusal> {
        let mut form = form;
        for name in ["subject_token", "actor_token"] {
            let Some(token) = form.one(name).and_then(|text| self.resolver.parse(text).ok()) else {
                continue;
            };
            match self.resolver.resolve(&token).await {
                Ok(jwt) => form = form.with(name, jwt.expose()),
                Err(Unresolved::Unavailable(outage)) => return Err(outage.into()),
                Err(Unresolved::Invalid(_)) => {
                    return Err(Refusal::InvalidRequest(
                        "a token to be exchanged is unknown, expired or revoked",
                    ));
                }
            }
        }
        Ok(form)
    }

    async fn exchange(
        &self,
        form: &Form,
        mut begun: Begun,
        answer: Response<Bytes>,
    ) -> Result<Response<Body>, Refusal> {
        let (parts, text) = answer.into_parts();
        let read = TokenAnswer::read(&parts.headers, text.clone()).map_err(|error| {
            tracing::error!(%error, "the authorization server's answer cannot be read");
            Refusal::Broken
        })?;
        let Some(read) = read else {
            return Ok(pass(Response::from_parts(parts, text)));
        };
        let Some(jwt) = self.splittable(&read)? else {
            return Ok(pass(Response::from_parts(parts, text)));
        };
        let jwt = self.verified(jwt).await?;
        if read
            .expires_in
            .is_some_and(|seconds| seconds > jwt.expires_at().since(self.clock.now()).as_secs() + 60)
        {
            tracing::warn!("an answer gives its token a longer life than the token has");
        }
        let belongs_to_grant = read.refresh_token.is_some() || presented(form).next().is_some();
        begun.grant = begun
            .grant
            .or_else(|| belongs_to_grant.then(GrantId::random_grant));
        let token = self.publisher.publish(&jwt, begun).await?;
        self.keep_grant(form, &read, begun.grant).await?;

        let drop = (self.config.id_token == IdToken::Drop).then_some("id_token");
        if drop.is_none()
            && read
                .id_token
                .as_deref()
                .is_some_and(|id_token| has_at_hash(id_token))
        {
            self.warned_of_at_hash.call_once(|| {
                tracing::warn!("ID tokens carry an at_hash of the JWT: clients that check it refuse them");
            });
        }
        let text = read.with(&token, drop).ok_or(Refusal::Broken)?;
        let mut response = pass(Response::from_parts(parts, text));
        response
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
            .headers_mut()
            .insert(PRAGMA, HeaderValue::from_static("no-cache"));
        Ok(response)
    }

    /// The JWT of the answer; none if it passes unsplit.
    fn splittable(&self, answer: &TokenAnswer) -> Result<Option<UnverifiedJwt>, Refusal> {
        match UnverifiedJwt::parse(answer.access_token.clone()) {
            Ok(jwt) if jwt.can_be_split() => Ok(Some(jwt)),
            _ if self.config.unsplittable == Unsplittable::Pass => Ok(None),
            _ => {
                tracing::error!("the authorization server issued a token that cannot be split");
                Err(Refusal::BadGateway(
                    "the authorization server issued a token that cannot be split",
                ))
            }
        }
    }

    /// Held to what the gateways will hold it to (BR-08).
    async fn verified(&self, jwt: UnverifiedJwt) -> Result<VerifiedJwt, Refusal> {
        self.issuers.verify_issued(jwt, self.clock.now()).await.map_err(|rejection| match rejection {
            Rejection::KeysUnavailable => Refusal::Unavailable,
            rejection => {
                tracing::error!(%rejection, "the authorization server issued a token that no gateway would accept");
                Refusal::BadGateway("the authorization server issued a token that the gateways would refuse")
            }
        })
    }

    /// Notes to which grant the code that was spent and the refresh token that was given belong.
    async fn keep_grant(
        &self,
        form: &Form,
        answer: &TokenAnswer,
        grant: Option<GrantId>,
    ) -> Result<(), Refusal> {
        let Some(grant) = grant else { return Ok(()) };
        let until = self.clock.now().plus(self.config.max_grant_lifetime);
        let given = answer
            .refresh_token
            .as_ref()
            .map(|token| ("refresh_token", token.as_str()));
        for (kind, value) in presented(form).chain(given) {
            let key = self.secrets.newest().ledger_key(kind, &self.config.issuer, value);
            self.store
                .put_grant(key, grant, until)
                .await
                .map_err(PublishError::Store)?;
        }
        Ok(())
    }

    /// A code or refresh token that the ledger knows and the server refuses was used before: whoever holds tokens of
    /// that grant may be a thief (RFC 6749 §4.1.2, RFC 9700 §4.14.2).
    async fn punish_reuse(&self, form: &Form, begun: Begun, answer: &Response<Bytes>) {
        let is_refused = answer.status() == StatusCode::BAD_REQUEST
            && symbolon_core::json::parse_object(answer.body()).is_ok_and(|members| {
                members.get("error").and_then(|error| error.as_str()) == Some("invalid_grant")
            });
        let Some(grant) = begun
            .grant
            .filter(|_| is_refused && presented(form).next().is_some())
        else {
            return;
        };
        tracing::warn!("a code or refresh token was used again; its grant is revoked");
        if let Err(outage) = self.revoker.revoke_grant(grant, Asker::Operator).await {
            tracing::error!(
                ?outage,
                "the grant of a code or refresh token that was used again is not revoked"
            );
        }
    }
}

/// Whether an ID token speaks of the access token beside it (OpenID Connect Core §3.1.3.6).
fn has_at_hash(id_token: &str) -> bool {
    let payload = id_token
        .split('.')
        .nth(1)
        .and_then(symbolon_core::base64url::decode);
    payload.is_some_and(|payload| {
        symbolon_core::json::parse_object(&payload).is_ok_and(|claims| claims.contains_key("at_hash"))
    })
}

/// The code or refresh token that a request brings.
fn presented(form: &Form) -> impl Iterator<Item = (&'static str, &str)> {
    ["code", "refresh_token"]
        .into_iter()
        .filter_map(|kind| Some((kind, form.one(kind)?)))
}
