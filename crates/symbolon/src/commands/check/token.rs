//! `symbolon check --live --client-id`: a token of a real client, held against what will be asked of it.
//!
//! Names and types of claims are shown, and never a value.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use symbolon::config::route_name;
use symbolon::forward::{Forwarder, RequestBody, Roots};
use symbolon::gateway::Route;
use symbolon::keys::Metadata;
use symbolon::token_service::broker::{self, Mode, Unsplittable};
use symbolon_core::json::{self, Object};
use symbolon_core::{
    Algorithm, IssuerPolicy, Policy, Profile, Rejection, TokenKind, UnverifiedJwt, VerifiedJwt, base64url,
};
use url::Url;
use zeroize::Zeroizing;

use super::introspection;
use super::live::{Asked, Asking, Findings, token_endpoint};
use crate::commands::{Failure, Outcome, input, private_text};

#[derive(Args)]
pub(super) struct Client {
    /// Ask for a token as this client, by `client_credentials`, and look at it; its secret is read from standard input
    #[arg(long = "client-id", value_name = "ID", requires = "live")]
    id: Option<String>,
    /// Read the client's secret from a file
    #[arg(long = "client-secret-file", value_name = "FILE", requires = "id")]
    secret_file: Option<PathBuf>,
    /// The scopes that it asks for
    #[arg(long, value_name = "SCOPES", requires = "id")]
    scope: Option<String>,
}

const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 1024 * 1024;

/// Asks for a token by `client_credentials`, if there is a client to ask as.
pub(super) async fn check(
    asking: &Asking<'_>,
    client: &Client,
    issuers: Vec<Asked<'_>>,
    findings: &mut Findings,
) -> Outcome {
    let Some(id) = &client.id else {
        return Ok(());
    };
    let secret = match &client.secret_file {
        Some(file) => private_text(file)?,
        None => input()?,
    };
    let has_tokens = |issuer: &Asked<'_>| issuer.broker.is_some() || issuer.issuer.introspection.is_some();
    let Some(Asked {
        issuer,
        metadata: Some(metadata),
        keys,
        broker,
    }) = issuers.into_iter().find(has_tokens)
    else {
        findings.wrong(
            "no token was asked for: no server answers that a token service here stands before, or that has phantom \
             tokens",
        );
        return Ok(());
    };
    let Some(url) = token_endpoint(&metadata, broker) else {
        return Ok(());
    };
    let request = client.request(id, secret.trim(), &metadata, broker, &url)?;
    let http = Forwarder::new(&Roots::of(&url, None))?;
    let response = match http.forward(request, TIMEOUT).await {
        Ok(response) => response,
        Err(error) => {
            findings.wrong(format!("no token for the client: {url}: {error}"));
            return Ok(());
        }
    };
    let status = response.status();
    let body = symbolon::http::read(axum::body::Body::new(response.into_body()), MAX_ANSWER);
    let body = tokio::time::timeout(TIMEOUT, body).await.ok().flatten();
    let answer = body
        .and_then(|body| json::parse_object(&body).ok())
        .unwrap_or_default();
    let text = |name: &str| answer.get(name).and_then(json::Value::as_str);
    let (StatusCode::OK, Some(token)) = (status, text("access_token")) else {
        let code = text("error").filter(|code| {
            code.bytes()
                .all(|octet| octet.is_ascii_lowercase() || octet == b'_')
        });
        findings.wrong(format!(
            "no token for the client: {status}, {}; see its secret, and that it may ask by client_credentials",
            code.unwrap_or("neither a token nor an error code")
        ));
        return Ok(());
    };
    let jwt = match broker {
        Some(broker) => to_split(token, broker, findings),
        None => introspection::jwt(asking, issuer, token, findings).await?,
    };
    let Some(jwt) = jwt else {
        return Ok(());
    };
    let policy = Policy::new([IssuerPolicy {
        issuer: issuer.issuer.clone(),
        profile: issuer.profile.clone(),
        algorithms: issuer.algorithms.clone(),
        tokens: issuer.tokens,
        max_lifetime: issuer.max_lifetime,
        keys: keys.map(Arc::new),
    }]);
    if broker.is_none() {
        introspection::says_little(token, issuer, &policy, asking.clock.now(), findings);
    }
    let token = Token {
        jwt,
        issuer,
        client: id,
    };
    token.describe(findings);
    match policy.verify_issued(token.jwt.clone(), asking.clock.now()) {
        Ok(verified) => {
            findings.fine(match broker {
                Some(_) => "the token verifies: it would be split and published",
                None => "the JWT that it stands for verifies: it would be forwarded",
            });
            let routes = asking.config.gateway.iter().flat_map(|role| &role.routes);
            token.fits(&verified, routes, findings);
        }
        Err(rejection) => {
            findings.wrong(format!(
                "the token would be refused: {rejection}{}",
                token.cure(rejection)
            ));
        }
    }
    Ok(())
}

/// The JWT that a token is, if it could be split.
fn to_split(token: &str, broker: &broker::Config, findings: &mut Findings) -> Option<UnverifiedJwt> {
    let jwt = UnverifiedJwt::parse(Zeroizing::new(token.to_owned())).ok();
    if jwt.is_none() {
        let passes = match broker.unsplittable {
            Unsplittable::Refuse => {
                "it is refused; let the server issue JWTs, or write unsplittable = \"pass\""
            }
            Unsplittable::Pass => "it passes, and is no token at a gateway",
        };
        findings.wrong(format!(
            "the client's token is no signed JWT, so it cannot be split: {passes}"
        ));
    }
    jwt
}

impl Client {
    fn request(
        &self,
        id: &str,
        secret: &str,
        metadata: &Metadata,
        broker: Option<&broker::Config>,
        url: &Url,
    ) -> Result<Request<RequestBody>, Failure> {
        let methods = metadata
            .0
            .get("token_endpoint_auth_methods_supported")
            .and_then(json::Value::as_array);
        let takes = |method: &str| {
            methods.is_none_or(|methods| methods.iter().any(|known| known.as_str() == Some(method)))
        };
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if let Some(scope) = &self.scope {
            form.append_pair("scope", scope);
        }
        let in_header = takes("client_secret_basic") || !takes("client_secret_post");
        if !in_header {
            form.append_pair("client_id", id)
                .append_pair("client_secret", secret);
        }
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(url.as_str())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(RequestBody::full(form.finish().into()))?;
        if in_header {
            // RFC 6749 §2.3.1
            let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let joined = Zeroizing::new(format!("{}:{}", encoded(id), encoded(secret)));
            let mut basic = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(joined.as_bytes())))?;
            basic.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, basic);
        }
        if let Some(Mode::Origin { public_url }) = broker.map(|broker| &broker.mode) {
            // As the token service will ask: under the server's public name.
            let host = HeaderValue::from_str(public_url.authority())?;
            request.headers_mut().insert("x-forwarded-host", host.clone());
            request
                .headers_mut()
                .insert("x-forwarded-proto", HeaderValue::from_str(public_url.scheme())?);
            request.headers_mut().insert(HOST, host);
        }
        Ok(request)
    }
}

/// A token that the server gave.
struct Token<'a> {
    jwt: UnverifiedJwt,
    issuer: &'a symbolon::keys::Config,
    client: &'a str,
}

impl Token<'_> {
    /// What it is made of.
    fn describe(&self, findings: &mut Findings) {
        let header = self.part(0);
        let text = |name: &str| header.get(name).and_then(json::Value::as_str);
        let alg = text("alg")
            .and_then(Algorithm::from_name)
            .map_or("an algorithm that is not known here", Algorithm::name);
        let typ = match text("typ").map(str::to_ascii_lowercase).as_deref() {
            Some("jwt") => "typ JWT",
            Some("at+jwt" | "application/at+jwt") => "typ at+jwt",
            Some(_) => "another typ than an access token's",
            None => "no typ",
        };
        let whole = self.jwt.expose().len();
        let is = match self.issuer.tokens {
            TokenKind::Phantom => "stands for",
            TokenKind::Salted | TokenKind::Signature => "is",
        };
        findings.fine(format!(
            "the client's token {is} a JWT of {whole} characters, {alg}, {typ}"
        ));
        let payload = self.part(1);
        let claims: Vec<_> = payload
            .iter()
            .map(|(name, value)| format!("{name} ({})", kind(value)))
            .collect();
        findings.fine(format!("its claims: {}", claims.join(", ")));
    }

    /// What the gateway and the revocation endpoint will ask besides.
    fn fits<'r>(
        &self,
        verified: &VerifiedJwt,
        routes: impl Iterator<Item = &'r Route>,
        findings: &mut Findings,
    ) {
        let lives = verified.expires_at().since(verified.issued_at()).as_secs();
        let most = self.issuer.max_lifetime.as_secs();
        findings.fine(format!(
            "it lives {lives} s, of {most} s that `max_lifetime` allows"
        ));
        if verified.is_sender_constrained() {
            findings
                .wrong("it is bound to a key (cnf): the gateway refuses it, since no proof is checked yet");
        }
        if verified.is_of_client(self.client) {
            findings.fine("it names its client, which can revoke it");
        } else if self.issuer.tokens == TokenKind::Phantom {
            findings.note("it does not name the client that asked: operators cannot revoke by that");
        } else {
            let claims: Vec<_> = self.issuer.profile.client_claims.iter().collect();
            let claims = claims.join(" or ");
            findings.wrong(format!(
                "its {claims} is not the client that asked: clients cannot revoke their tokens"
            ));
        }
        let size = "Bearer ".len() + verified.expose().len();
        for route in routes {
            let name = route_name(route);
            if let Some(audience) = route
                .audience
                .as_ref()
                .filter(|audience| !verified.is_for(audience))
            {
                findings.note(format!(
                    "{name} refuses it: it is not for {audience}; if this client is to call it, add that audience to the \
                     client's tokens (Keycloak: an audience mapper)"
                ));
                continue;
            }
            let missing: Vec<_> = route
                .scopes
                .iter()
                .filter(|scope| !verified.has_scope(scope))
                .map(String::as_str)
                .collect();
            if size > route.max_authorization {
                let most = route.max_authorization;
                findings.wrong(format!(
                    "{name} cannot take it: `Authorization` would have {size} octets, of {most} that `max_authorization` \
                     allows"
                ));
            } else if missing.is_empty() {
                findings.fine(format!("{name} takes it, with {size} octets in `Authorization`"));
            } else {
                findings.note(format!("{name} refuses it: it lacks {}", missing.join(" ")));
            }
        }
    }

    /// What to change.
    fn cure(&self, rejection: Rejection) -> &'static str {
        match rejection {
            Rejection::Claim("aud") => {
                ": tokens carry no audience; add one to the client's tokens (Keycloak: an audience mapper)"
            }
            Rejection::Type if self.issuer.profile.name == Profile::RFC9068.name => {
                "; for a Keycloak write profile = \"keycloak\""
            }
            Rejection::Claim("sub" | "client" | "jti") => {
                "; see whether the server can add it, else write where it stands (`client_claims`, `jti_claims`) or leave \
                 it out of `required`"
            }
            Rejection::Issuer => "; write `issuer` as the server writes `iss`",
            Rejection::Algorithm => "; add it to `algorithms`, or let the server sign with one of those",
            Rejection::Lifetime => "; raise `max_lifetime`, or let the server issue shorter ones",
            Rejection::NotYet(_) | Rejection::Expired => "; see the clocks of both machines",
            Rejection::UnknownKey | Rejection::Signature | Rejection::KeysUnavailable => {
                "; see where its keys are published"
            }
            _ => "",
        }
    }

    fn part(&self, index: usize) -> Object {
        let part = self.jwt.signing_input().split('.').nth(index).unwrap_or_default();
        let octets = Zeroizing::new(base64url::decode(part).unwrap_or_default());
        json::parse_object(&octets).unwrap_or_default()
    }
}

fn kind(value: &json::Value) -> &'static str {
    match value {
        json::Value::Null => "null",
        json::Value::Bool(_) => "boolean",
        json::Value::Number(_) | json::Value::Integer(_) => "number",
        json::Value::String(_) => "string",
        json::Value::Array(_) => "array",
        json::Value::Object(_) => "object",
    }
}
