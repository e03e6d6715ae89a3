//! Forwards what was authorized.

use std::net::SocketAddr;

use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, EXPECT, HOST, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, StatusCode, Version};
use symbolon_core::AcceptedJwt;

use super::authorize::{Credentials, Denial, Denied, Reason};
use super::routes::{Choice, Target};
use super::{Gateway, cors, respond};
use crate::forward::{self, Downstream, ForwardError, RequestBody};
use crate::http::{self, Body};
use crate::introspect::AskError;
use crate::listener::Handler;
use crate::request::{self, Host};
use crate::resolve::{Invalid, Outage, Unresolved};

impl Handler for Gateway {
    async fn handle(&self, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        let host = match request::check(&request) {
            Ok(host) => host,
            Err(refusal) => return refusal.into_response(),
        };
        let target = match self.routes.choose(&host.name(), request.uri().path()) {
            Choice::Route(target) => target,
            Choice::None => return http::status(StatusCode::NOT_FOUND),
            Choice::Ambiguous => return respond::ambiguous_path(),
        };
        let origin = cors::allowed_origin(request.headers(), &target.route.cors_origins);
        let mut response = match &origin {
            Some(origin) if cors::is_preflight(request.method(), request.headers()) => {
                return cors::preflight(request.headers(), origin.clone());
            }
            _ => self.authorize_and_forward(peer, &host, &target, request).await,
        };
        cors::expose(&mut response, &target.route.cors_origins, origin);
        response
    }
}

impl Gateway {
    async fn authorize_and_forward(
        &self,
        peer: SocketAddr,
        host: &Host,
        target: &Target,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let credentials = Credentials {
            headers: request.headers(),
            query: request.uri().query(),
        };
        let jwt = match self.authorize(&credentials, &target.route, &target.scope).await {
            Ok(jwt) => jwt,
            Err(denied) => {
                log_denial(&denied, &target.route.path);
                return respond::denial(&denied.denial, &self.realm, &target.route.scopes);
            }
        };
        let Some(authorization) = authorization(&jwt, target.route.max_authorization) else {
            tracing::error!(
                route = target.route.path,
                "a token is larger than the resource server takes"
            );
            return respond::too_large();
        };
        match self.forward(peer, host, target, request, authorization).await {
            Ok(response) => response,
            Err(error) => {
                tracing::warn!(route = target.route.path, %error, "not forwarded");
                failure(&error)
            }
        }
    }

    async fn forward(
        &self,
        peer: SocketAddr,
        host: &Host,
        target: &Target,
        request: Request<Incoming>,
        authorization: HeaderValue,
    ) -> Result<Response<Body>, ForwardError> {
        let (mut parts, body) = request.into_parts();
        let downstream = Downstream::new(peer, &self.trusted_proxies);
        forward::drop_hop_by_hop(&mut parts.headers);
        downstream.drop_forged(&mut parts.headers, &self.strip);
        downstream.set_forwarded(&mut parts.headers, host.field());
        // Exactly one, ours, in the place of whatever the client sent (GW-50).
        parts.headers.insert(AUTHORIZATION, authorization);
        parts.headers.remove(HOST);
        // The body is asked for here, as soon as the resource server wants it.
        parts.headers.remove(EXPECT);
        // What belongs to the client's connection, such as a way to upgrade it.
        parts.extensions.clear();

        let root = PathAndQuery::from_static("/");
        let path = parts.uri.path_and_query().unwrap_or(&root);
        parts.uri = forward::at_server(&target.server, path)
            .ok_or_else(|| ForwardError::Unavailable("its address is no URL".into()))?;
        parts.version = Version::HTTP_11;
        let request = Request::from_parts(parts, RequestBody::of_client(body).await?);
        let response = target.forwarder.forward(request, target.route.timeout).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(ForwardError::Unavailable("it switched protocols unasked".into()));
        }
        let mut response = response.map(Body::Incoming);
        // The version is the connection's, and this answer goes out on another one.
        *response.version_mut() = Version::HTTP_11;
        forward::drop_hop_by_hop(response.headers_mut());
        Ok(response)
    }
}

/// The field that the resource server gets. Never printed, not even by a `Debug` of the request.
fn authorization(jwt: &AcceptedJwt, limit: usize) -> Option<HeaderValue> {
    const SCHEME: &str = "Bearer ";
    let length = SCHEME.len() + jwt.expose().len();
    if length > limit {
        return None;
    }
    let mut value = Vec::with_capacity(length);
    value.extend_from_slice(SCHEME.as_bytes());
    value.extend_from_slice(jwt.expose().as_bytes());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from(value)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn log_denial(
    Denied {
        denial,
        correlation_id,
    }: &Denied,
    route: &str,
) {
    let token = correlation_id.as_deref().unwrap_or_default();
    match denial {
        Denial::InvalidToken(Reason::Unresolved(Unresolved::Invalid(Invalid::Poisoned(error)))) => {
            tracing::error!(route, token, %error, "the store holds what no token service of ours wrote");
        }
        // Strangers can bring as many of these as they like.
        Denial::Unavailable(Outage::Introspection(AskError::OverBudget | AskError::Resting)) => {
            tracing::info!(route, token, reason = %denial, "request not decided");
        }
        Denial::Unavailable(_) => tracing::warn!(route, token, reason = %denial, "request not decided"),
        _ => tracing::info!(route, token, reason = %denial, "request denied"),
    }
}

fn failure(error: &ForwardError) -> Response<Body> {
    match error {
        ForwardError::Unavailable(_) => {
            respond::bad_gateway(StatusCode::BAD_GATEWAY, "the resource server cannot be reached")
        }
        ForwardError::Timeout => respond::bad_gateway(
            StatusCode::GATEWAY_TIMEOUT,
            "the resource server did not answer in time",
        ),
        ForwardError::RequestBody => {
            let why = "the request body is malformed, or broke off";
            http::and_close(http::error(StatusCode::BAD_REQUEST, "invalid_request", why))
        }
    }
}
