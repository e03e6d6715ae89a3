//! Obtains a JWT from the authorization server that this token service stands in front of.
//!
//! A token request goes through unchanged, once, and so does the answer, but for its access token: that is verified,
//! split and published before the client sees the answer. What is no such answer passes as it is.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::{any, post};
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue,
    PRAGMA,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use ipnet::IpNet;
use symbolon_core::{GrantId, OpaqueToken, Rejection, Secrets, UnverifiedJwt, VerifiedJwt};
use tokio::sync::OnceCell;
use url::Url;

use super::token::Refusal;
use crate::clock::Clock;
use crate::forward::{self, Downstream, ForwardError, Forwarder, RequestBody};
use crate::http::{self, Body};
use crate::keys::{Issuers, Metadata, map_to};
use crate::publish::{PublishError, Publisher};
use crate::resolve::{Resolver, Unresolved};
use crate::revoke::{Asker, Found, Revoker};
use crate::store::{Begun, EntryStore};

mod answer;
mod request;

use answer::TokenAnswer;
use request::Form;

/// A broker before an authorization server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// Where it is reached.
    pub authorization_server: Url,
    /// Where clients ask for tokens.
    pub token_path: String,
    /// Where clients revoke them.
    pub revocation_path: String,
    /// Where clients ask about the user.
    pub userinfo_path: String,
    /// What becomes of a token that cannot be split.
    pub unsplittable: Unsplittable,
    /// What becomes of an ID token beside one that was.
    pub id_token: IdToken,
    /// Whether `grant_type=password` passes.
    pub allows_password: bool,
    /// How long a grant may live: as long the ledger knows its codes and refresh tokens.
    pub max_grant_lifetime: Duration,
    /// Whose `X-Forwarded-*` fields are believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// What becomes of an access token that is no JWS, or whose signature is too long to be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsplittable {
    /// 502, and an error in the log.
    Refuse,
    /// It passes, for resource servers that stand behind no gateway of ours.
    Pass,
}

/// What becomes of an ID token whose `at_hash` was made of the JWT that the client does not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdToken {
    /// It passes. Clients that check `at_hash` refuse it.
    Pass,
    /// It is left out of the answer.
    Drop,
}

/// The running broker.
pub struct Broker {
    config: Config,
    http: Forwarder,
    endpoints: OnceCell<Endpoints>,
    issuers: Arc<Issuers>,
    store: Arc<dyn EntryStore>,
    publisher: Publisher,
    resolver: Resolver,
    revoker: Arc<Revoker>,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
}

/// Where the authorization server's own endpoints are.
struct Endpoints {
    token: Url,
    revocation: Option<Url>,
    userinfo: Option<Url>,
}

const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_REQUEST: usize = 64 * 1024;
const MAX_ANSWER: usize = 1024 * 1024;
const DPOP: HeaderName = HeaderName::from_static("dpop");

impl Broker {
    /// A broker that publishes with `publisher` and makes tokens whole with `resolver`.
    #[allow(clippy::too_many_arguments, reason = "it needs every part of both roles")]
    pub fn new(
        config: Config,
        http: Forwarder,
        issuers: Arc<Issuers>,
        store: Arc<dyn EntryStore>,
        publisher: Publisher,
        resolver: Resolver,
        revoker: Arc<Revoker>,
        secrets: Secrets,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let endpoints = OnceCell::new();
        Self {
            config,
            http,
            endpoints,
            issuers,
            store,
            publisher,
            resolver,
            revoker,
            secrets,
            clock,
        }
    }

    /// Its endpoints.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route(&self.config.token_path, post(token))
            .route(&self.config.revocation_path, post(revocation))
            .route(&self.config.userinfo_path, any(userinfo))
            .with_state(self)
    }

    /// Where the server's endpoints are, as its metadata say; asked once, when it is there.
    async fn endpoints(&self) -> Result<&Endpoints, Refusal> {
        let found = self.endpoints.get_or_try_init(|| async {
            let base = &self.config.authorization_server;
            let metadata = Metadata::fetch(&self.http, &self.config.issuer, Some(base)).await?;
            let at = |member: &str| {
                let url = Url::parse(metadata.text(member)?).ok()?;
                Some(map_to(base, &self.config.issuer, &url).unwrap_or(url))
            };
            let token =
                at("token_endpoint").ok_or_else(|| crate::keys::FetchError::new("no token_endpoint"))?;
            let (revocation, userinfo) = (at("revocation_endpoint"), at("userinfo_endpoint"));
            Ok::<_, crate::keys::FetchError>(Endpoints {
                token,
                revocation,
                userinfo,
            })
        });
        found.await.map_err(|error| {
            tracing::warn!(%error, "the authorization server's metadata are not to be had");
            Refusal::Unavailable
        })
    }

    async fn token(&self, parts: &Parts, body: axum::body::Body) -> Result<Response<Body>, Refusal> {
        let body = http::read(body, MAX_REQUEST).await;
        let body = body.ok_or(Refusal::InvalidRequest("the body broke off or is too large"))?;
        let form = Form::read(&parts.headers, body);
        let form = form.ok_or(Refusal::InvalidRequest("a parameter stands more than once"))?;
        if form.one("grant_type") == Some("password") && !self.config.allows_password {
            return Err(Refusal::UnsupportedGrantType);
        }
        // Before the server is asked: a code that is spent there cannot be spent again when the store is back.
        let begun = self.begin(&form).await?;
        let form = self.made_whole(form).await?;
        let endpoint = &self.endpoints().await?.token;
        let answer = self.ask(parts, endpoint, form.body()).await?;
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

    async fn revocation(&self, parts: &Parts, body: axum::body::Body) -> Result<Response<Body>, Refusal> {
        let body = http::read(body, MAX_REQUEST).await;
        let body = body.ok_or(Refusal::InvalidRequest("the body broke off or is too large"))?;
        let form = Form::read(&parts.headers, body);
        let form = form.ok_or(Refusal::InvalidRequest("a parameter stands more than once"))?;
        let Some(endpoint) = &self.endpoints().await?.revocation else {
            return Ok(http::status(StatusCode::NOT_FOUND));
        };
        let text = form.one("token").ok_or(Refusal::InvalidRequest("no token"))?;
        let token = self.resolver.parse(text).ok();
        let found = match &token {
            Some(token) => Some((token, self.revoker.find(token).await?)),
            None => None,
        };
        // The server authenticates the caller (RV-04). It is asked once, about the token that it knows.
        let asked = match &found {
            Some((_, Found::Live(jwt))) => form.with("token", jwt.expose()),
            _ => form,
        };
        let answer = self.ask(parts, endpoint, asked.body()).await?;
        if !is_authenticated(&answer) {
            return if answer.status().is_server_error() {
                Err(Refusal::Unavailable)
            } else {
                Ok(pass(answer))
            };
        }
        match found {
            Some((_, Found::Live(jwt))) if !self.is_of(&jwt, &asked, &parts.headers) => {
                return Err(Refusal::InvalidGrant("the token was issued to another client"));
            }
            Some((token, found)) => self.revoker.revoke(token, &found, Asker::Client).await?,
            None => self.revoke_grant_of(&asked).await?,
        }
        Ok(http::status(StatusCode::OK))
    }

    fn is_of(&self, jwt: &VerifiedJwt, form: &Form, headers: &HeaderMap) -> bool {
        form.unverified_client(headers)
            .is_some_and(|client| jwt.is_of_client(&client))
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

    async fn userinfo(&self, mut parts: Parts, body: axum::body::Body) -> Result<Response<Body>, Refusal> {
        let Some(endpoint) = &self.endpoints().await?.userinfo else {
            return Ok(http::status(StatusCode::NOT_FOUND));
        };
        let body = http::read(body, MAX_REQUEST).await;
        let body = body.ok_or(Refusal::InvalidRequest("the body broke off or is too large"))?;
        match self.whole_authorization(&parts.headers).await? {
            Some(whole) => parts.headers.insert(AUTHORIZATION, whole),
            None => return Ok(invalid_token()),
        };
        Ok(pass(self.ask(&parts, endpoint, body).await?))
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

    /// Asks the server, once; nothing is retried and no redirect followed (BR-19, BR-25).
    async fn ask(&self, parts: &Parts, endpoint: &Url, body: Bytes) -> Result<Response<Bytes>, Refusal> {
        let request = self.request(parts, endpoint, body).ok_or(Refusal::Broken)?;
        let answer = async {
            let (parts, body) = self.http.forward(request, TIMEOUT).await?.into_parts();
            let body = http::read(axum::body::Body::new(body), MAX_ANSWER).await;
            let body =
                body.ok_or_else(|| ForwardError::Unavailable("its answer broke off or is too large".into()))?;
            Ok::<_, ForwardError>(Response::from_parts(parts, body))
        };
        let answer = tokio::time::timeout(TIMEOUT, answer)
            .await
            .unwrap_or(Err(ForwardError::Timeout));
        answer.map_err(|error| {
            tracing::warn!(%error, "the authorization server did not answer");
            Refusal::ServerUnavailable {
                timeout: matches!(error, ForwardError::Timeout),
            }
        })
    }

    fn request(&self, parts: &Parts, endpoint: &Url, body: Bytes) -> Option<hyper::Request<RequestBody>> {
        let peer = parts.extensions.get::<SocketAddr>().copied();
        let downstream = Downstream::new(
            peer.unwrap_or((Ipv4Addr::LOCALHOST, 0).into()),
            &self.config.trusted_proxies,
        );
        let mut headers = parts.headers.clone();
        let proof = headers.get(DPOP).cloned();
        let host = headers.get(HOST).cloned()?;
        forward::drop_hop_by_hop(&mut headers);
        downstream.drop_forged(&mut headers, &[]);
        downstream.set_forwarded(&mut headers, &host);
        headers.remove(CONTENT_LENGTH);
        headers.remove(HOST);
        // An answer that has to be read must not be compressed.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(proof) = proof {
            headers.insert(DPOP, proof);
        }
        let mut request = hyper::Request::new(RequestBody::full(body));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = endpoint.as_str().parse().ok()?;
        *request.headers_mut() = headers;
        Some(request)
    }
}

/// The code or refresh token that a request brings.
fn presented(form: &Form) -> impl Iterator<Item = (&'static str, &str)> {
    ["code", "refresh_token"]
        .into_iter()
        .filter_map(|kind| Some((kind, form.one(kind)?)))
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

/// An answer as it came, but for what concerned the connection to the server.
fn pass(answer: Response<Bytes>) -> Response<Body> {
    let mut response = answer.map(|body| Body::Full(body.into()));
    forward::drop_hop_by_hop(response.headers_mut());
    response.headers_mut().remove(CONTENT_LENGTH);
    response
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

async fn token(State(broker): State<Arc<Broker>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    broker
        .token(&parts, body)
        .await
        .unwrap_or_else(Refusal::into_response)
}

async fn revocation(State(broker): State<Arc<Broker>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    broker
        .revocation(&parts, body)
        .await
        .unwrap_or_else(Refusal::into_response)
}

async fn userinfo(State(broker): State<Arc<Broker>>, request: Request) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return http::status(StatusCode::METHOD_NOT_ALLOWED);
    }
    let (parts, body) = request.into_parts();
    broker
        .userinfo(parts, body)
        .await
        .unwrap_or_else(Refusal::into_response)
}
