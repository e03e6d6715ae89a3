//! The token endpoint: a request goes through unchanged, and of its answer the access token is exchanged.

use std::time::Duration;

use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, HeaderValue, PRAGMA};
use symbolon_core::{GrantId, Rejection, UnverifiedJwt, VerifiedJwt, base64url, json};
use url::Url;

use super::answer::{ACCESS_TOKEN, JWT, Kind, TokenAnswer};
use super::request::Form;
use super::server::{Asked, pass, pass_changed};
use super::{Broker, IdToken, Unsplittable};
use crate::http::Body;
use crate::publish::{Patience, PublishError};
use crate::resolve::Unresolved;
use crate::revocations::Asker;
use crate::store::{Begun, LedgerKey, RECORD_MARGIN};
use crate::token_service::token::Refusal;

impl Broker {
    pub(super) async fn token(&self, mut asked: Asked, endpoint: &Url) -> Result<Response<Body>, Refusal> {
        let form = Form::read(&asked.parts, asked.body.clone())?;
        let is_password = |grant: &str| grant.trim().eq_ignore_ascii_case("password");
        if form.one("grant_type").is_some_and(is_password) && !self.config.allows_password {
            return Err(Refusal::UnsupportedGrantType(
                "the password grant is not let through",
            ));
        }
        let _turn = match spent(&form) {
            Some((kind, value)) => {
                let key = self.secrets.newest().ledger_key(kind, &self.config.issuer, value);
                Some(self.turns.take(key).await)
            }
            None => None,
        };
        // Before the server is asked: a code that is spent there cannot be spent again when the store is back.
        let begun = self.begin(&form).await?;
        let form = self.made_whole(form).await?;
        // User-Managed Access brings one there, too.
        if let Some(whole) = self.whole_authorization(&asked.parts.headers).await? {
            asked.parts.headers.insert(AUTHORIZATION, whole);
        }
        let answer = self.ask(&asked, endpoint, form.body()).await?;
        if answer.status().is_success() {
            let mut response = self.exchange(&form, begun, answer).await?;
            let headers = response.headers_mut();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
            return Ok(response);
        }
        self.punish_reuse(&form, begun, &answer).await;
        Ok(pass(answer))
    }

    /// The mark of the request, and the grant of the code or refresh token that it brings.
    async fn begin(&self, form: &Form) -> Result<Begun, Refusal> {
        let keys = spent(form).map(|(kind, value)| self.ledger_keys(kind, value));
        let mut keys = keys.unwrap_or_default().into_iter();
        let mut begun = self.publisher.begin_with(keys.next()).await?;
        begun.grant = match begun.grant {
            Some(grant) => Some(grant),
            None => self.known_grant(keys).await?,
        };
        if begun
            .grant
            .is_some_and(|grant| self.revoker.is_grant_revoked(grant))
        {
            return Err(Refusal::InvalidGrant("what was granted has been revoked"));
        }
        Ok(begun)
    }

    /// The names in the ledger of a code or refresh token, under every secret that is held.
    pub(super) fn ledger_keys(&self, kind: &str, value: &str) -> Vec<LedgerKey> {
        let issuer = &self.config.issuer;
        self.secrets
            .iter()
            .map(|secret| secret.ledger_key(kind, issuer, value))
            .collect()
    }

    /// The grant that the ledger has under one of these names.
    pub(super) async fn known_grant(
        &self,
        keys: impl IntoIterator<Item = LedgerKey>,
    ) -> Result<Option<GrantId>, PublishError> {
        for key in keys {
            let known = self.store.begin(Some(key)).await.map_err(PublishError::Store)?;
            if known.grant.is_some() {
                return Ok(known.grant);
            }
        }
        Ok(None)
    }

    /// Tokens that clients bring for exchange (RFC 8693 §2.1) are made whole, after the same decision as at the
    /// gateway (BR-16).
    async fn made_whole(&self, form: Form) -> Result<Form, Refusal> {
        let mut form = form;
        for (name, kind) in [
            ("subject_token", "subject_token_type"),
            ("actor_token", "actor_token_type"),
        ] {
            // A refresh token may look like an opaque token, and is the server's.
            if !matches!(form.one(kind), None | Some(ACCESS_TOKEN | JWT)) {
                continue;
            }
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

    /// The answer with the opaque token in it; as it came if there is nothing to exchange.
    async fn exchange(
        &self,
        form: &Form,
        mut begun: Begun,
        answer: Response<Bytes>,
    ) -> Result<Response<Body>, Refusal> {
        let read = TokenAnswer::read(answer.headers(), answer.body().clone()).map_err(|error| {
            tracing::error!(%error, "the authorization server's answer cannot be read");
            Refusal::BadGateway("the authorization server's answer cannot be read")
        })?;
        let Some(read) = read else {
            return Ok(pass(answer));
        };
        let Some(jwt) = self.to_be_split(&read).await? else {
            return Ok(pass(answer));
        };
        let belongs_to_grant = read.refresh_token.is_some() || spent(form).is_some();
        begun.grant = begun
            .grant
            .or_else(|| belongs_to_grant.then(GrantId::random_grant));
        // The server has answered, and does so once: what it gave is not lost to a store that stumbles.
        let mut patience = Patience::of_a_second();
        let id_token = read.id_token.as_deref().and_then(|text| claims_of(text));
        let id_token = id_token.unwrap_or_default();
        let sid = id_token.get("sid").and_then(json::Value::as_str);
        let sid = sid.filter(|sid| !sid.is_empty());
        let token = self
            .publisher
            .publish_with(&mut patience, &jwt, begun, sid)
            .await?;
        if let Some(grant) = begun.grant {
            self.keep_grant(&mut patience, form, &read, grant, &jwt).await?;
        }
        self.warn_of_surprises(&read, &jwt, id_token.contains_key("at_hash"));
        let drop = (self.config.id_token == IdToken::Drop).then_some("id_token");
        let text = read.with(&token, drop).ok_or(Refusal::Broken)?;
        Ok(pass_changed(answer.map(|_| text)))
    }

    /// What the operator should know of, and what changes nothing (BR-10).
    fn warn_of_surprises(&self, answer: &TokenAnswer, jwt: &VerifiedJwt, has_at_hash: bool) {
        let lives_for = jwt.expires_at().since(self.clock.now()).as_secs();
        if answer.expires_in.is_some_and(|seconds| seconds > lives_for + 60) {
            tracing::warn!("an answer gives its token a longer life than the token has");
        }
        if has_at_hash && self.config.id_token == IdToken::Pass {
            self.warned_of_at_hash.call_once(|| {
                tracing::warn!("ID tokens carry an at_hash of the JWT: clients that check it refuse them");
            });
        }
    }

    /// The JWT of the answer, held to what the gateways will hold it to (BR-08); none if it passes as it is.
    async fn to_be_split(&self, answer: &TokenAnswer) -> Result<Option<VerifiedJwt>, Refusal> {
        let jwt = UnverifiedJwt::parse(answer.access_token.clone());
        let jwt = jwt.ok().filter(UnverifiedJwt::can_be_split);
        match (answer.kind, jwt) {
            (Kind::Access, Some(jwt)) => self.verified(jwt).await.map(Some),
            // What is an access token all the same is split: a client may choose what it asks for by name.
            (Kind::Other, Some(jwt)) => match self.issuers.verify_issued(jwt, self.clock.now()).await {
                Ok(jwt) if jwt.issuer() == self.config.issuer => Ok(Some(jwt)),
                Err(Rejection::KeysUnavailable) => Err(Refusal::Unavailable),
                Ok(_) | Err(_) => Ok(None),
            },
            (Kind::Other, None) => Ok(None),
            (Kind::Access | Kind::Unknown, _) if self.config.unsplittable == Unsplittable::Pass => Ok(None),
            (Kind::Access | Kind::Unknown, _) => {
                tracing::error!("the authorization server issued a token that cannot be split");
                Err(Refusal::BadGateway(
                    "the authorization server issued a token that cannot be split",
                ))
            }
        }
    }

    async fn verified(&self, jwt: UnverifiedJwt) -> Result<VerifiedJwt, Refusal> {
        let refuse = |reason: &dyn std::fmt::Display| {
            tracing::error!(%reason, "the authorization server issued a token that no gateway would accept");
            Refusal::BadGateway("the authorization server issued a token that the gateways would refuse")
        };
        match self.issuers.verify_issued(jwt, self.clock.now()).await {
            // Another issuer's JWT would get a token here that its own token service never gave.
            Ok(jwt) if jwt.issuer() != self.config.issuer => Err(refuse(&"another issuer's")),
            Ok(jwt) => Ok(jwt),
            Err(Rejection::KeysUnavailable) => Err(Refusal::Unavailable),
            Err(rejection) => Err(refuse(&rejection)),
        }
    }

    /// Notes to which grant the code that was spent and the refresh token that was given belong, for as long as there
    /// can be tokens of that grant.
    async fn keep_grant(
        &self,
        patience: &mut Patience,
        form: &Form,
        answer: &TokenAnswer,
        grant: GrantId,
        jwt: &VerifiedJwt,
    ) -> Result<(), Refusal> {
        let now = self.clock.now();
        let longest = self.config.max_grant_lifetime;
        let spent = spent(form);
        let given = answer.refresh_token.as_ref();
        let given = given.map(|token| ("refresh_token", token.as_str()));
        let refreshes_for = match answer.refresh_expires_in {
            Some(seconds) => Duration::from_secs(seconds),
            // One that was not replaced goes on, for as long as nobody says.
            None if given.is_some() || spent.is_some_and(|(kind, _)| kind == "refresh_token") => longest,
            None => Duration::ZERO,
        };
        let ends_at = now
            .plus(refreshes_for.min(longest))
            .max(jwt.expires_at())
            .plus(RECORD_MARGIN);
        for (kind, value) in spent.into_iter().chain(given) {
            let key = self.secrets.newest().ledger_key(kind, &self.config.issuer, value);
            let kept = patience.insist(|| self.store.put_grant(key, grant, ends_at));
            kept.await.map_err(PublishError::Store)?;
        }
        Ok(())
    }

    /// A code or refresh token that the ledger knows and the server refuses was used before: whoever holds tokens of
    /// that grant may be a thief (RFC 6749 §4.1.2, RFC 9700 §4.14.2).
    async fn punish_reuse(&self, form: &Form, begun: Begun, answer: &Response<Bytes>) {
        // Some say so with a 403.
        let is_refused = answer.status().is_client_error()
            && json::parse_object(answer.body()).is_ok_and(|members| {
                members.get("error").and_then(|error| error.as_str()) == Some("invalid_grant")
            });
        if !is_refused {
            return;
        }
        // Another token service may have spent it meanwhile.
        let grant = match (begun.grant, spent(form)) {
            (None, Some((kind, value))) => self.known_grant(self.ledger_keys(kind, value)).await,
            (known, _) => Ok(known),
        };
        let Ok(Some(grant)) = grant else { return };
        tracing::warn!("a code or refresh token was used again; its grant is revoked");
        if let Err(outage) = self.revoker.revoke_grant(grant, Asker::Operator).await {
            tracing::error!(
                ?outage,
                "the grant of a code or refresh token that was used again is not revoked"
            );
        }
    }
}

/// What an ID token says, which came from its issuer and is not verified any further (OpenID Connect Core §3.1.3.7):
/// `sid` ends the access token beside it with its session, and `at_hash` speaks of that (§3.1.3.6).
fn claims_of(id_token: &str) -> Option<json::Object> {
    let payload = id_token.split('.').nth(1).and_then(base64url::decode)?;
    json::parse_object(&payload).ok()
}

/// The code or refresh token that a request spends. What else stands in it the server takes no notice of: a stolen
/// refresh token beside a code of one's own would otherwise go on under the code's grant.
fn spent(form: &Form) -> Option<(&'static str, &str)> {
    let kind = match form.one("grant_type")? {
        "authorization_code" => "code",
        "refresh_token" => "refresh_token",
        _ => return None,
    };
    Some((kind, form.one(kind)?))
}
