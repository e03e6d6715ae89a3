//! What is right, and still worth a second thought.

use std::net::SocketAddr;

use symbolon_core::{Profile, Required, TokenKind, Typ};
use url::Url;

use super::Config;
use crate::gateway;
use crate::keys::{self, Location, is_loopback};
use crate::store;
use crate::token_service::broker::{self, IdToken, Mode, Unsplittable};
use crate::token_service::{self, Source, mint};

/// Clients that compare the `at_hash` of an ID token with the access token beside it, and refuse the one for the other.
pub const CLIENTS_THAT_CHECK_AT_HASH: &str = "openid-client 5 and older, so next-auth 4; Authlib, python-social-auth, \
                                              mod_auth_openidc, angular-auth-oidc-client";

impl Config {
    /// What its operator should know of it, a sentence each.
    pub fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        if matches!(self.store, store::Config::Memory { .. }) {
            let is_phantom = |issuer: &keys::Config| issuer.tokens == TokenKind::Phantom;
            let nothing_is_stored = self.token_service.is_none() && self.issuers.iter().all(is_phantom);
            advice.push(if nothing_is_stored {
                "the store is in memory: a restart forgets what operators revoked".to_owned()
            } else {
                "the store is in memory: a restart ends all tokens".to_owned()
            });
        }
        #[cfg(feature = "redis")]
        if let store::Config::Redis(config) = &self.store
            && config.is_in_clear()
        {
            advice.push(
                "the store is reached in clear: its password and which tokens are used can be read on that link, which \
                 must be private"
                    .to_owned(),
            );
        }
        for issuer in self
            .issuers
            .iter()
            .filter(|issuer| issuer.tokens == TokenKind::Signature)
        {
            advice.push(format!(
                "tokens of {}: with \"signature\", who sees a JWT at an API or in its log holds the client's token; \
                 take \"salted\" unless clients depend on the other",
                issuer.issuer
            ));
        }
        for issuer in &self.issuers {
            if let keys::Source::Fetched(Location::Url(url)) = &issuer.keys
                && is_in_clear(url)
            {
                advice.push(format!(
                    "keys of {} come from {url} in clear: who stands between can sign for it, so that link must be private",
                    issuer.issuer
                ));
            }
            let asked = issuer.introspection.as_ref();
            if let Some(url) = asked
                .and_then(|asked| asked.endpoint.as_ref())
                .filter(|url| is_in_clear(url))
            {
                advice.push(format!(
                    "tokens of {} and the gateway's secret go to {url} in clear: that link must be private",
                    issuer.issuer
                ));
            }
            for laxer in laxer(&issuer.profile) {
                let (issuer, name) = (&issuer.issuer, issuer.profile.name);
                advice.push(format!(
                    "tokens of {issuer}: laxer than the profile {name}: {laxer}"
                ));
            }
        }
        if let Some(role) = &self.token_service {
            self.token_service_advice(role, &mut advice);
        }
        if let Some(role) = &self.gateway {
            gateway_advice(role, &mut advice);
        }
        if self.admin.as_ref().is_some_and(|admin| admin.token.is_none()) {
            advice.push("the admin listener has no `token`: operators can revoke nothing".to_owned());
        }
        advice
    }

    fn token_service_advice(&self, role: &token_service::Config, advice: &mut Vec<String>) {
        advice.extend(in_clear("the token service", role.listen));
        match &role.source {
            Source::Mint(mint::Config { clients, .. }) => {
                if clients.is_empty() {
                    advice.push("the token service has no clients: nobody can get a token".to_owned());
                }
            }
            Source::Broker(broker) => {
                let issuer = self.issuers.iter().find(|issuer| issuer.issuer == broker.issuer);
                broker_advice(broker, issuer, advice);
            }
        }
    }
}

/// What an issuer's settings take that its profile would not, and what comes of it.
fn laxer(profile: &Profile) -> Vec<String> {
    let original = profile.original();
    let mut laxer = Vec::new();
    if profile.typ.contains(&Typ::Jwt) {
        let is_new = !original.typ.contains(&Typ::Jwt);
        match &profile.jwt_claim {
            None if is_new || original.jwt_claim.is_some() => laxer.push(
                "a JWT of type JWT is an access token whatever it says of itself: ID tokens may be among them"
                    .to_owned(),
            ),
            Some((name, value)) if is_new || profile.jwt_claim != original.jwt_claim => laxer.push(format!(
                "a JWT of type JWT is an access token by its claim {name} = \"{value}\" alone"
            )),
            _ => {}
        }
    }
    for (what, names, original) in [
        ("client", &profile.client_claims, &original.client_claims),
        ("scopes", &profile.scope_claims, &original.scope_claims),
        ("jti", &profile.jti_claims, &original.jti_claims),
    ] {
        let known: Vec<_> = original.iter().collect();
        for name in names.iter().filter(|name| !known.contains(name)) {
            laxer.push(format!(
                "the claim {name} is believed to hold the {what}: see that the server alone decides what is in it"
            ));
        }
    }
    for missing in original
        .required
        .iter()
        .filter(|what| !profile.required.contains(what))
    {
        laxer.push(match missing {
            Required::Audience => "a token without `aud` is for every route that has no `audience`".to_owned(),
            Required::Subject => "a token may have no `sub`: revoking its subject does not reach it".to_owned(),
            Required::Client => {
                "a token may name no client: no client can revoke it, and revoking its client does not reach it"
                    .to_owned()
            }
            Required::Jti => "a token may have no `jti`: revoking by `jti` does not reach it".to_owned(),
        });
    }
    if original.at_hash && !profile.at_hash {
        laxer.push("ID tokens pass without a word, as if they had no `at_hash`".to_owned());
    }
    laxer
}

fn broker_advice(broker: &broker::Config, issuer: Option<&keys::Config>, advice: &mut Vec<String>) {
    if matches!(broker.mode, Mode::Endpoint(_)) {
        advice.push(
            "with mode = \"endpoint\", authorization and logout stay at the authorization server, which knows no opaque \
             token"
                .to_owned(),
        );
    }
    let server = &broker.authorization_server;
    if is_in_clear(server) {
        advice.push(format!(
            "clients' secrets and tokens go to {server} in clear: that link must be private"
        ));
    }
    if issuer.is_some_and(|issuer| issuer.profile.at_hash) && broker.id_token == IdToken::Pass {
        advice.push(format!(
            "ID tokens pass with an `at_hash` of the JWT that clients do not get: {CLIENTS_THAT_CHECK_AT_HASH} refuse \
             them"
        ));
    }
    if broker.id_token == IdToken::Drop {
        advice.push("ID tokens are left out: clients that log users in by them cannot".to_owned());
    }
    if broker.unsplittable == Unsplittable::Pass {
        advice.push(
            "a token that cannot be split reaches its client as it is, and is no token at a gateway"
                .to_owned(),
        );
    }
    if broker.allows_password {
        advice.push(
            "grant_type=password passes: clients see users' passwords (RFC 9700 §2.4 forbids it)".to_owned(),
        );
    }
    advice.extend(trusts_everybody("the token service", &broker.trusted_proxies));
}

fn gateway_advice(role: &gateway::Config, advice: &mut Vec<String>) {
    advice.extend(in_clear("the gateway", role.listen));
    advice.extend(trusts_everybody("the gateway", &role.trusted_proxies));
    if role.routes.is_empty() {
        advice.push("the gateway has no routes: every request is answered 404".to_owned());
    }
    if let Some(url) = role
        .fallback
        .as_ref()
        .map(|fallback| &fallback.endpoint)
        .filter(|url| is_in_clear(url))
    {
        advice.push(format!(
            "tokens and the gateways' secret go to {url} in clear: that link must be private"
        ));
    }
    for route in &role.routes {
        let name = route_name(route);
        if route.audience.is_none() {
            advice.push(format!(
                "{name} has no `audience`: it takes a token that is meant for another API"
            ));
        }
        if is_in_clear(&route.resource_server) {
            advice.push(format!(
                "{name}: JWTs go to {} in clear: that link must be private",
                route.resource_server
            ));
        }
    }
}

/// A route, as its operator knows it.
pub fn route_name(route: &gateway::Route) -> String {
    format!(
        "route {}{}",
        route.host.as_deref().unwrap_or_default(),
        route.path
    )
}

fn in_clear(role: &str, listen: SocketAddr) -> Option<String> {
    (!listen.ip().to_canonical().is_loopback()).then(|| {
        format!(
            "{role} listens on {listen} without TLS, for other machines: end TLS in front of it, on a link that is private"
        )
    })
}

fn is_in_clear(server: &Url) -> bool {
    server.scheme() == "http" && !is_loopback(server)
}

fn trusts_everybody(role: &str, networks: &[ipnet::IpNet]) -> Option<String> {
    networks.iter().any(|network| network.prefix_len() == 0).then(|| {
        format!("{role} believes everybody's X-Forwarded-*: write the networks of your proxies alone")
    })
}
