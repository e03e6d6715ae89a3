//! The decision: one credential, resolve, the route's policy.

use std::fmt;

use hyper::header::{AUTHORIZATION, HeaderMap};
use symbolon_core::{AcceptedJwt, OpaqueToken, Rejection};

use super::{Gateway, Route};
use crate::introspect::AskError;
use crate::resolve::{Invalid, Outage, Resolver, Scope, Unresolved};

/// Why a request is not forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// No bearer token came with it.
    NoToken,
    /// It cannot be told which token is meant.
    InvalidRequest(&'static str),
    /// The token is not, or no longer, one. The reason is for the log, not for the client.
    InvalidToken(Reason),
    /// The token is good, and not enough.
    InsufficientScope,
    /// Nobody can say now.
    Unavailable(Outage),
}

/// What is wrong with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It does not follow the grammar.
    Grammar(symbolon_core::TokenError),
    /// It was not resolved.
    Unresolved(Unresolved),
    /// It is for another audience.
    Audience,
    /// It is bound to a key, and whether the caller holds that cannot be checked here yet (GW-40).
    SenderConstrained,
}

/// What a request brings to the decision.
pub struct Credentials<'a> {
    /// Its header fields.
    pub headers: &'a HeaderMap,
    /// Its query, as it stands in the request line.
    pub query: Option<&'a str>,
}

impl Gateway {
    /// Decides about one request on that route, where those tokens are taken. Every way in asks here; nothing else makes a [`AcceptedJwt`] of a
    /// request.
    pub async fn authorize(
        &self,
        request: &Credentials<'_>,
        route: &Route,
        scope: &Scope,
    ) -> Result<AcceptedJwt, Denied> {
        let decision = self.decide(request, route, scope).await;
        let outcome = match &decision {
            Ok(_) => "forwarded",
            Err(denied) => denied.denial.name(),
        };
        self.resolver.metrics().decided(outcome);
        decision
    }

    async fn decide(
        &self,
        request: &Credentials<'_>,
        route: &Route,
        scope: &Scope,
    ) -> Result<AcceptedJwt, Denied> {
        let token = match request.bearer_token(&self.resolver, scope) {
            Ok(token) => token,
            Err(denial) => {
                return Err(Denied {
                    denial,
                    correlation_id: None,
                });
            }
        };
        let decision = match self.resolver.resolve_in(&token, scope).await {
            Ok(jwt) => check(&jwt, route).map(|()| jwt),
            Err(Unresolved::Unavailable(outage)) => Err(Denial::Unavailable(outage)),
            Err(unresolved) => Err(Denial::InvalidToken(Reason::Unresolved(unresolved))),
        };
        decision.map_err(|denial| Denied {
            denial,
            correlation_id: Some(self.resolver.correlation_id(&token)),
        })
    }
}

impl Denial {
    /// What it is called in the metrics.
    fn name(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::InvalidRequest(_) => "invalid_request",
            Self::InvalidToken(Reason::Grammar(_)) => "grammar",
            Self::InvalidToken(Reason::Audience) => "audience",
            Self::InvalidToken(Reason::SenderConstrained) => "sender_constrained",
            Self::InvalidToken(Reason::Unresolved(Unresolved::Invalid(why))) => match why {
                Invalid::Unknown => "unknown",
                Invalid::Inactive => "inactive",
                Invalid::Revoked(_) => "revoked",
                Invalid::Poisoned(_) => "poisoned",
                Invalid::Rejected(Rejection::Expired) => "expired",
                Invalid::Rejected(_) => "rejected",
            },
            Self::InsufficientScope => "insufficient_scope",
            Self::Unavailable(outage)
            | Self::InvalidToken(Reason::Unresolved(Unresolved::Unavailable(outage))) => match outage {
                Outage::Store(_) => "store_unavailable",
                Outage::OldView => "log_unavailable",
                Outage::Keys => "keys_unavailable",
                Outage::Introspection(AskError::ClaimsOnly) => "introspection_without_jwt",
                Outage::Introspection(AskError::OverBudget | AskError::Resting) => {
                    "introspection_over_budget"
                }
                Outage::Introspection(_) => "introspection_unavailable",
            },
        }
    }
}

/// A denial, with what the log calls the token.
#[derive(Debug)]
pub struct Denied {
    /// Why.
    pub denial: Denial,
    /// Of the token, if one was read.
    pub correlation_id: Option<String>,
}

/// The route's policy.
fn check(jwt: &AcceptedJwt, route: &Route) -> Result<(), Denial> {
    if jwt.is_sender_constrained() {
        return Err(Denial::InvalidToken(Reason::SenderConstrained));
    }
    if route
        .audience
        .as_ref()
        .is_some_and(|audience| !jwt.is_for(audience))
    {
        return Err(Denial::InvalidToken(Reason::Audience));
    }
    if !route.scopes.iter().all(|scope| jwt.has_scope(scope)) {
        return Err(Denial::InsufficientScope);
    }
    Ok(())
}

impl Credentials<'_> {
    /// The one bearer token, from `Authorization` alone (GW-01, GW-06).
    fn bearer_token(&self, resolver: &Resolver, scope: &Scope) -> Result<OpaqueToken, Denial> {
        let mut fields = self.headers.get_all(AUTHORIZATION).iter();
        let Some(field) = fields.next() else {
            return Err(Denial::NoToken);
        };
        if fields.next().is_some() {
            return Err(Denial::InvalidRequest("more than one Authorization field"));
        }
        let field = field
            .to_str()
            .map_err(|_| Denial::InvalidRequest("Authorization is not ASCII"))?;
        let (scheme, rest) = field.split_once(' ').unwrap_or((field, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Denial::NoToken);
        }
        if self.has_token_in_query() {
            return Err(Denial::InvalidRequest(
                "a token in Authorization and one in the query",
            ));
        }
        match rest.trim_start_matches(' ') {
            "" => Err(Denial::InvalidRequest("Authorization names no token")),
            text => resolver
                .parse_in(text, scope)
                .map_err(|error| Denial::InvalidToken(Reason::Grammar(error))),
        }
    }

    fn has_token_in_query(&self) -> bool {
        let query = self.query.unwrap_or_default().as_bytes();
        form_urlencoded::parse(query).any(|(name, _)| name == "access_token")
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToken => f.write_str("no bearer token"),
            Self::InvalidRequest(why) => f.write_str(why),
            Self::InvalidToken(Reason::Grammar(error)) => error.fmt(f),
            Self::InvalidToken(Reason::Unresolved(why)) => why.fmt(f),
            Self::InvalidToken(Reason::Audience) => f.write_str("token is for another audience"),
            Self::InvalidToken(Reason::SenderConstrained) => {
                f.write_str("token is bound to a key, which cannot be checked here yet")
            }
            Self::InsufficientScope => f.write_str("token lacks a scope"),
            Self::Unavailable(outage) => Unresolved::Unavailable(outage.clone()).fmt(f),
        }
    }
}
