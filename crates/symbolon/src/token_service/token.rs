//! Token endpoint (RFC 6749 §3.2): obtain a JWT, split, publish, answer.

use std::sync::Arc;

use axum::body::Body as RequestBody;
use axum::extract::State;
use hyper::header::{HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::json;
use symbolon_core::{RecordType, VerifiedJwt};

use super::client_auth::Unauthenticated;
use super::mint::Grant;
use super::{Client, TokenService};
use crate::form::{Form, Malformed};
use crate::forward::ForwardError;
use crate::http::{self, Body};
use crate::publish::PublishError;

/// Why a request gets no token.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Its body, its parameters or its credentials cannot be read.
    InvalidRequest(&'static str),
    /// The client is not who it says, or does not say.
    InvalidClient,
    /// The same, once too often.
    InvalidClientAgain,
    /// Another grant than there is.
    UnsupportedGrantType(&'static str),
    /// A scope that the client may not have.
    InvalidScope,
    /// A resource that the client may not have, or several.
    InvalidTarget,
    /// What was granted has been revoked.
    InvalidGrant(&'static str),
    /// Not now.
    Unavailable,
    /// The token would be one that no gateway accepts. Somebody should look.
    Broken,
    /// The authorization server issued what cannot be handed out.
    BadGateway(&'static str),
    /// The authorization server did not answer.
    ServerUnavailable { timeout: bool },
    /// A token was to come through the browser (RFC 9700 §2.1.2).
    FrontChannel,
}

/// `Authorization: Bearer ` and the JWT beyond this do not fit into the fields that servers take by default (GW-53).
const LARGE_AUTHORIZATION: usize = 8_000;

pub(super) async fn endpoint(
    State(service): State<Arc<TokenService>>,
    headers: HeaderMap,
    body: RequestBody,
) -> Response<Body> {
    match service.issue(&headers, body).await {
        Ok(answer) => http::json(StatusCode::OK, &answer),
        Err(refusal) => refusal.into_response(),
    }
}

impl TokenService {
    async fn issue(&self, headers: &HeaderMap, body: RequestBody) -> Result<serde_json::Value, Refusal> {
        let form = Form::read(headers, body).await?;
        let client = self.authenticate(headers, &form)?;
        match form.one("grant_type") {
            Some("client_credentials") => {}
            Some(_) => {
                return Err(Refusal::UnsupportedGrantType(
                    "this token service knows client_credentials alone",
                ));
            }
            None => return Err(Refusal::InvalidRequest("no grant_type")),
        }
        let scope = allowed_scope(client, form.one("scope"))?;
        let audience = allowed_audience(client, &form)?;
        // The request begins here: what is revoked from now on, and only that, ends this token too.
        let begun = self.publisher.begin().await?;
        let jwt = self.sign(&Grant {
            client,
            audience,
            scope: &scope,
        })?;
        let token = self.publisher.publish(&jwt, begun).await?;
        let mut answer = json!({
            "access_token": token.expose(),
            "token_type": "Bearer",
            "expires_in": self.mint.lifetime().as_secs(),
        });
        if !scope.is_empty() {
            answer["scope"] = scope.into();
        }
        Ok(answer)
    }

    /// Signs, and holds it to what the gateways will hold it to (BR-08).
    fn sign(&self, grant: &Grant<'_>) -> Result<VerifiedJwt, Refusal> {
        let now = self.clock.now();
        let broken = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "a token was signed that no gateway would accept");
            Refusal::Broken
        };
        let jwt = self.mint.sign(grant, now).map_err(|error| broken(&error))?;
        let jwt = self
            .issuers
            .policy()
            .rules
            .verify_issued(jwt, now)
            .map_err(|error| broken(&error))?;
        if jwt.expose().len() > LARGE_AUTHORIZATION {
            tracing::warn!("a token was issued that is larger than many resource servers take");
        }
        Ok(jwt)
    }
}

/// What was asked for, if the client may have all of it; without a wish, all that it may have (RFC 6749 §3.3). One
/// space stands between two scopes, and none before or behind them.
fn allowed_scope(client: &Client, asked: Option<&str>) -> Result<String, Refusal> {
    let Some(asked) = asked else {
        return Ok(client.scopes.join(" "));
    };
    let mut granted: Vec<&str> = Vec::new();
    for scope in asked.split(' ') {
        if !client.scopes.iter().any(|allowed| allowed == scope) {
            return Err(Refusal::InvalidScope);
        }
        if !granted.contains(&scope) {
            granted.push(scope);
        }
    }
    Ok(granted.join(" "))
}

/// One resource (RFC 8707 §2): its scopes would otherwise hold at all of them (RFC 9068 §3).
fn allowed_audience<'a>(client: &'a Client, form: &Form) -> Result<&'a str, Refusal> {
    let mut asked = form.all("resource");
    let (first, None) = (asked.next(), asked.next()) else {
        return Err(Refusal::InvalidTarget);
    };
    match first {
        None => client
            .audiences
            .first()
            .map(String::as_str)
            .ok_or(Refusal::InvalidTarget),
        Some(resource) => {
            let allowed = client.audiences.iter().find(|audience| *audience == resource);
            allowed.map(String::as_str).ok_or(Refusal::InvalidTarget)
        }
    }
}

impl Refusal {
    /// RFC 6749 §5.2, RFC 8707 §2. The only place.
    pub(super) fn into_response(self) -> Response<Body> {
        let (status, code, why) = self.told();
        if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
            tracing::info!(code, why, "request refused");
        }
        let mut response = http::error(status, code, why);
        match self {
            // RFC 6749 asks for it if the client tried with Authorization, RFC 9110 §15.5.2 in every 401.
            Self::InvalidClient => {
                let basic = HeaderValue::from_static("Basic realm=\"token service\", charset=\"UTF-8\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, basic);
            }
            Self::Unavailable | Self::InvalidClientAgain => {
                let soon = HeaderValue::from_static("1");
                response.headers_mut().insert(RETRY_AFTER, soon);
            }
            _ => {}
        }
        response
    }

    fn told(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::InvalidRequest(why) => (StatusCode::BAD_REQUEST, "invalid_request", why),
            Self::InvalidClient => (
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                "client authentication failed",
            ),
            // RFC 6585 §4
            Self::InvalidClientAgain => (
                StatusCode::TOO_MANY_REQUESTS,
                "invalid_client",
                "client authentication failed too often",
            ),
            Self::UnsupportedGrantType(why) => (StatusCode::BAD_REQUEST, "unsupported_grant_type", why),
            Self::InvalidScope => (
                StatusCode::BAD_REQUEST,
                "invalid_scope",
                "the client may not have a scope that it asked for",
            ),
            Self::InvalidTarget => (
                StatusCode::BAD_REQUEST,
                "invalid_target",
                "one resource can be asked for, of those that the client may have",
            ),
            Self::InvalidGrant(why) => (StatusCode::BAD_REQUEST, "invalid_grant", why),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
                "the request cannot be completed at the moment",
            ),
            Self::FrontChannel => (
                StatusCode::BAD_REQUEST,
                "unsupported_response_type",
                "no access token is given through the browser",
            ),
            Self::BadGateway(why) => (StatusCode::BAD_GATEWAY, "server_error", why),
            Self::ServerUnavailable { timeout } => (
                if *timeout {
                    StatusCode::GATEWAY_TIMEOUT
                } else {
                    StatusCode::BAD_GATEWAY
                },
                "temporarily_unavailable",
                "the authorization server did not answer",
            ),
            Self::Broken => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                "the token service made a token that it cannot stand for",
            ),
        }
    }
}

impl From<Malformed> for Refusal {
    fn from(Malformed(why): Malformed) -> Self {
        Self::InvalidRequest(why)
    }
}

impl From<Unauthenticated> for Refusal {
    fn from(unauthenticated: Unauthenticated) -> Self {
        match unauthenticated {
            Unauthenticated::Malformed(why) => Self::InvalidRequest(why),
            Unauthenticated::Refused => Self::InvalidClient,
            Unauthenticated::RefusedAgain => Self::InvalidClientAgain,
        }
    }
}

impl From<ForwardError> for Refusal {
    fn from(error: ForwardError) -> Self {
        match error {
            ForwardError::RequestBody => Self::InvalidRequest("the body broke off"),
            ForwardError::Timeout => Self::ServerUnavailable { timeout: true },
            ForwardError::Unavailable(_) => Self::ServerUnavailable { timeout: false },
        }
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Store(_) | PublishError::NotReady => {
                tracing::warn!(%error, "no token issued");
                Self::Unavailable
            }
            PublishError::Revoked(RecordType::Grant | RecordType::Session) => {
                Self::InvalidGrant("what was granted has been revoked")
            }
            PublishError::Revoked(_) => {
                tracing::info!(%error, "no token issued");
                Self::Unavailable
            }
            PublishError::Split(_) | PublishError::Repeated | PublishError::NotUnique => {
                tracing::error!(%error, "no token issued");
                Self::Broken
            }
        }
    }
}
