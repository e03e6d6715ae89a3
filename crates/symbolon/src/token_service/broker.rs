//! Obtains a JWT from the authorization server that this token service stands in front of.
//!
//! A token request goes through unchanged, once, and so does the answer, but for its access token: that is verified,
//! split and published before the client sees the answer. What is no such answer passes as it is.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Once};
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue,
    PRAGMA,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use ipnet::IpNet;
use symbolon_core::{GrantId, Rejection, Secrets, UnverifiedJwt, VerifiedJwt};
use tokio::sync::OnceCell;
use url::Url;

use super::revocation::Limits;
use super::token::Refusal;
use crate::clock::Clock;
use crate::forward::{
    self, Downstream, ForwardError, Forwarder, RequestBody, X_FORWARDED_HOST, X_FORWARDED_PROTO,
};
use crate::http::{self, Body};
use crate::keys::{FetchError, Issuers, Metadata, map_to};
use crate::paths;
use crate::publish::{PublishError, Publisher};
use crate::resolve::{Resolver, Unresolved};
use crate::revocations::Asker;
use crate::revoke::{Found, Revoker};
use crate::store::{Begun, EntryStore};

mod answer;
mod passthrough;
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
    /// Where this broker stands.
    pub mode: Mode,
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

/// Where a broker stands.
#[derive(Clone, Debug)]
pub enum Mode {
    /// Beside the authorization server: it has these paths, and clients know the server for all else.
    Endpoint(Places),
    /// At the server's own public origin: it has every path there, and the server sees what it always saw.
    Origin {
        /// The origin under which clients know the server.
        public_url: Url,
    },
}

/// The paths that a broker acts at; every other one is the server's.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Token endpoint.
    pub token: Option<String>,
    /// Revocation endpoint.
    pub revocation: Option<String>,
    /// Where clients ask about the user.
    pub userinfo: Option<String>,
    /// The metadata documents.
    pub metadata: Vec<String>,
    /// Authorization endpoint, and where requests for it are pushed.
    pub authorization: Vec<String>,
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
    resolver: Arc<Resolver>,
    revoker: Revoker,
    secrets: Secrets,
    limits: Limits,
    warned_of_at_hash: Once,
    clock: Arc<dyn Clock>,
}

/// Where the authorization server's own endpoints are, and which paths are ours.
struct Endpoints {
    token: Url,
    revocation: Option<Url>,
    userinfo: Option<Url>,
    places: Places,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Token,
    Revocation,
    Userinfo,
    Metadata,
    Authorization,
    Elsewhere,
}

/// The authorization server names its endpoints under another origin than the one that this broker stands at.
#[derive(Debug)]
pub struct Mismatch {
    member: &'static str,
    url: String,
    public_url: Url,
}

/// What clients find in the metadata and have to find here.
const AT_ORIGIN: [&str; 5] = [
    "issuer",
    "token_endpoint",
    "revocation_endpoint",
    "userinfo_endpoint",
    "authorization_endpoint",
];
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
        resolver: Arc<Resolver>,
        revoker: Revoker,
        secrets: Secrets,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            config,
            http,
            endpoints: OnceCell::new(),
            issuers,
            store,
            publisher,
            resolver,
            revoker,
            secrets,
            limits: Limits::default(),
            warned_of_at_hash: Once::new(),
            clock,
        }
    }

    /// Holds what the server says of itself against the settings (BR-06). A server that does not answer says nothing.
    pub async fn self_test(&self) -> Result<(), Box<Mismatch>> {
        let base = &self.config.authorization_server;
        match Metadata::fetch(&self.http, &self.config.issuer, Some(base)).await {
            Ok(metadata) => self.compare(&metadata),
            Err(error) => {
                tracing::warn!(%error, "the authorization server does not answer yet");
                Ok(())
            }
        }
    }

    fn compare(&self, metadata: &Metadata) -> Result<(), Box<Mismatch>> {
        let Mode::Origin { public_url } = &self.config.mode else {
            return Ok(());
        };
        for member in AT_ORIGIN {
            let Some(url) = metadata.text(member) else {
                continue;
            };
            if Url::parse(url).map(|url| url.origin()).ok() != Some(public_url.origin()) {
                return Err(Box::new(Mismatch {
                    member,
                    url: url.to_owned(),
                    public_url: public_url.clone(),
                }));
            }
        }
        Ok(())
    }

    /// Whether that path is one of its places; none if it has every path that nobody else has.
    pub fn has_place(&self, path: &str) -> Option<bool> {
        match &self.config.mode {
            Mode::Endpoint(places) => Some(places.of(path) != Some(Place::Elsewhere)),
            Mode::Origin { .. } => None,
        }
    }

    /// Answers one request.
    pub async fn answer(&self, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        if let Err(refusal) = crate::request::check(&request) {
            return refusal.into_response();
        }
        let endpoints = match self.endpoints().await {
            Ok(endpoints) => endpoints,
            Err(refusal) => return refusal.into_response(),
        };
        let Some(place) = endpoints.places.of(request.uri().path()) else {
            let why = "the path can be read as that of an endpoint";
            return http::error(StatusCode::BAD_REQUEST, "invalid_request", why);
        };
        match self.act(place, endpoints, peer, request).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn act(
        &self,
        place: Place,
        endpoints: &Endpoints,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let is_post = request.method() == Method::POST;
        let is_read = matches!(*request.method(), Method::GET | Method::POST);
        match (place, &endpoints.revocation, &endpoints.userinfo) {
            (Place::Token, ..) if is_post => {
                self.token(Asked::of(peer, request).await?, &endpoints.token)
                    .await
            }
            (Place::Revocation, Some(to), _) if is_post => {
                self.revocation(Asked::of(peer, request).await?, to).await
            }
            (Place::Userinfo, _, Some(to)) if is_read => {
                self.userinfo(Asked::of(peer, request).await?, to).await
            }
            (Place::Token, ..) if request.method() != Method::OPTIONS => {
                Ok(http::status(StatusCode::METHOD_NOT_ALLOWED))
            }
            (place, ..) => self.pass_through(place, peer, request).await,
        }
    }

    /// Where the server's endpoints are, as its metadata say; asked once, when it is there.
    async fn endpoints(&self) -> Result<&Endpoints, Refusal> {
        let found = self.endpoints.get_or_try_init(|| async {
            let base = &self.config.authorization_server;
            let metadata = Metadata::fetch(&self.http, &self.config.issuer, Some(base)).await?;
            self.endpoints_of(&metadata)
        });
        found.await.map_err(|error| {
            tracing::warn!(%error, "the authorization server's metadata are not to be had");
            Refusal::Unavailable
        })
    }

    fn endpoints_of(&self, metadata: &Metadata) -> Result<Endpoints, FetchError> {
        self.compare(metadata).map_err(FetchError::new)?;
        let public = |member: &str| Url::parse(metadata.text(member)?).ok();
        let at = |member: &str| {
            let url = public(member)?;
            Some(map_to(&self.config.authorization_server, &self.config.issuer, &url).unwrap_or(url))
        };
        let path = |member: &str| public(member).map(|url| url.path().to_owned());
        let places = match &self.config.mode {
            Mode::Endpoint(places) => places.clone(),
            Mode::Origin { .. } => Places {
                token: path("token_endpoint"),
                revocation: path("revocation_endpoint"),
                userinfo: path("userinfo_endpoint"),
                metadata: Metadata::paths(&self.config.issuer)?.to_vec(),
                authorization: ["authorization_endpoint", "pushed_authorization_request_endpoint"]
                    .into_iter()
                    .filter_map(path)
                    .collect(),
            },
        };
        Ok(Endpoints {
            token: at("token_endpoint")
                .ok_or_else(|| FetchError::new("the metadata name no token_endpoint"))?,
            revocation: at("revocation_endpoint"),
            userinfo: at("userinfo_endpoint"),
            places,
        })
    }

    async fn token(&self, asked: Asked, endpoint: &Url) -> Result<Response<Body>, Refusal> {
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

    async fn revocation(&self, asked: Asked, endpoint: &Url) -> Result<Response<Body>, Refusal> {
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

    async fn userinfo(&self, mut asked: Asked, endpoint: &Url) -> Result<Response<Body>, Refusal> {
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

    /// Asks the server, once; nothing is retried and no redirect followed (BR-19, BR-25).
    async fn ask(&self, asked: &Asked, endpoint: &Url, body: Bytes) -> Result<Response<Bytes>, Refusal> {
        let request = self.request(asked, endpoint, body).ok_or(Refusal::Broken)?;
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
            Refusal::from(error)
        })
    }

    fn request(&self, asked: &Asked, endpoint: &Url, body: Bytes) -> Option<Request<RequestBody>> {
        let mut headers = asked.parts.headers.clone();
        self.make_ours(&mut headers, asked.peer)?;
        headers.remove(CONTENT_LENGTH);
        // An answer that has to be read must not be compressed.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let mut url = endpoint.clone();
        url.set_query(asked.parts.uri.query());
        let mut request = Request::new(RequestBody::full(body));
        *request.method_mut() = asked.parts.method.clone();
        *request.uri_mut() = url.as_str().parse().ok()?;
        *request.headers_mut() = headers;
        Some(request)
    }

    /// Fields as the server is to see them: for its public name, from a client whose address is known. A proof of
    /// possession is the server's to check, and stays.
    fn make_ours(&self, headers: &mut HeaderMap, peer: SocketAddr) -> Option<()> {
        let downstream = Downstream::new(peer, &self.config.trusted_proxies);
        let proof = headers.get(DPOP).cloned();
        let host = headers.get(HOST).cloned()?;
        forward::drop_hop_by_hop(headers);
        downstream.drop_forged(headers, &[]);
        downstream.set_forwarded(headers, &host);
        headers.remove(HOST);
        // Under another name the server might call itself by that: an issuer that nobody knows.
        let public = match &self.config.mode {
            Mode::Origin { public_url } => public_url.clone(),
            Mode::Endpoint(_) => Url::parse(&self.config.issuer).ok()?,
        };
        let host = HeaderValue::from_str(public.authority()).ok()?;
        headers.insert(X_FORWARDED_HOST, host.clone());
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_str(public.scheme()).ok()?);
        headers.insert(HOST, host);
        if let Some(proof) = proof {
            headers.insert(DPOP, proof);
        }
        Some(())
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            member,
            url,
            public_url,
        } = self;
        write!(
            f,
            "the authorization server says that its {member} is {url}, which is not under public_url {public_url}: \
             give the server its public name (Keycloak: --hostname={public_url} --proxy-headers=xforwarded), or \
             correct public_url"
        )
    }
}

impl std::error::Error for Mismatch {}

/// A request that was read to its end.
struct Asked {
    peer: SocketAddr,
    parts: Parts,
    body: Bytes,
}

impl Asked {
    async fn of(peer: SocketAddr, request: Request<Incoming>) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let body = http::read(axum::body::Body::new(body), MAX_REQUEST).await;
        let body = body.ok_or(Refusal::InvalidRequest("the body broke off or is too large"))?;
        Ok(Self { peer, parts, body })
    }
}

impl Places {
    /// Which place a path is; none if a server could read it as another one (`//token`, `%74oken`, …): there a client
    /// would get what was meant to be split.
    fn of(&self, path: &str) -> Option<Place> {
        let place = self.named(|named| named == path);
        let is_same = |reading: &String| {
            let folded = paths::fold_case(reading);
            self.named(|named| named == reading) == place
                && self.named(|named| paths::fold_case(named) == folded) == place
        };
        paths::readings(path)?.iter().all(is_same).then_some(place)
    }

    fn named(&self, is: impl Fn(&str) -> bool) -> Place {
        let one = |place: &Option<String>| place.as_deref().is_some_and(&is);
        let among = |places: &[String]| places.iter().any(|place| is(place));
        match () {
            () if one(&self.token) => Place::Token,
            () if one(&self.revocation) => Place::Revocation,
            () if one(&self.userinfo) => Place::Userinfo,
            () if among(&self.metadata) => Place::Metadata,
            () if among(&self.authorization) => Place::Authorization,
            () => Place::Elsewhere,
        }
    }
}

/// Whether the token was issued to the client that asks.
fn is_of(jwt: &VerifiedJwt, form: &Form, headers: &HeaderMap) -> bool {
    form.unverified_client(headers)
        .is_some_and(|client| jwt.is_of_client(&client))
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
