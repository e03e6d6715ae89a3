//! Whether the authorization server of phantom tokens says of them what a gateway needs.

use symbolon::introspect::{AskError, Caller, Probe};
use symbolon::keys;
use symbolon_core::{OpaqueToken, Policy, Profile, UnixTime, UnverifiedJwt, base64url, random};
use zeroize::Zeroizing;

use super::live::{Asking, Findings};
use crate::commands::{Failure, Outcome};

/// Asks about a token that nobody has, as the gateway will ask.
pub(super) async fn check(asking: &Asking<'_>, issuer: &keys::Config, findings: &mut Findings) -> Outcome {
    let Some(probe) = probe(asking, issuer, findings)? else {
        return Ok(());
    };
    let made_up = OpaqueToken::parse_phantom(&base64url::encode(&random::<32>()))?;
    let name = &issuer.issuer;
    match probe.ask(&made_up).await {
        Ok(None) => findings.fine(format!("{name} introspects tokens for the gateway")),
        Ok(Some(_)) => findings.wrong(format!(
            "{name} has a JWT for a token that nobody was given: it introspects nothing"
        )),
        Err(error) => findings.wrong(told(issuer, &error)),
    }
    Ok(())
}

/// The JWT that a token stands for, if the gateway would get one.
pub(super) async fn jwt(
    asking: &Asking<'_>,
    issuer: &keys::Config,
    token: &str,
    findings: &mut Findings,
) -> Result<Option<UnverifiedJwt>, Failure> {
    let Ok(token) = OpaqueToken::parse_phantom(token) else {
        findings.wrong("the client's token is longer than a gateway takes, or no b64token");
        return Ok(None);
    };
    let Some(probe) = probe(asking, issuer, findings)? else {
        return Ok(None);
    };
    match probe.ask(&token).await {
        Ok(Some(jwt)) => return Ok(Some(jwt)),
        Ok(None) => findings.wrong(format!(
            "{} says that the client's token is not active, when the gateway asks{}",
            issuer.issuer,
            if issuer.profile.name == Profile::KEYCLOAK.name {
                ": put the gateway's client into the token's audience (an audience mapper with that client)"
            } else {
                ": see that the gateway's client may introspect other clients' tokens"
            }
        )),
        Err(error) => findings.wrong(told(issuer, &error)),
    }
    Ok(None)
}

/// Whether the token is not itself what the API is given: a gateway refuses that.
pub(super) fn says_little(
    token: &str,
    issuer: &keys::Config,
    policy: &Policy,
    now: UnixTime,
    findings: &mut Findings,
) {
    let jwt = UnverifiedJwt::parse(Zeroizing::new(token.to_owned()));
    if jwt.is_ok_and(|jwt| policy.verify(jwt, now).is_ok()) {
        findings.wrong(format!(
            "the client's token is itself a JWT as APIs are given, and the gateway refuses those{}",
            if issuer.profile.name == Profile::KEYCLOAK.name {
                ": switch on \"Always use lightweight access token\" of that client"
            } else {
                ": let the server hand out tokens that say less, or split them (tokens = \"salted\")"
            }
        ));
    }
}

fn probe(
    asking: &Asking<'_>,
    issuer: &keys::Config,
    findings: &mut Findings,
) -> Result<Option<Probe>, Failure> {
    let Some(settings) = &issuer.introspection else {
        return Ok(None);
    };
    let secrets = asking.config.secrets.as_ref();
    if matches!(settings.caller, Caller::Gateway) && secrets.is_none() {
        findings.note(format!(
            "tokens of {}: not asked about, since the secret for that is this process's own",
            issuer.issuer
        ));
        return Ok(None);
    }
    Ok(Probe::new(issuer, secrets, asking.clock.clone())?)
}

/// What is wrong, and what to change.
fn told(issuer: &keys::Config, error: &AskError) -> String {
    let cure = match error {
        AskError::ClaimsOnly if issuer.profile.name == Profile::KEYCLOAK.name => {
            "; switch on \"Support JWT claim in Introspection Response\" of the gateway's client (attribute \
             client.introspection.response.allow.jwt.claim.enabled)"
        }
        AskError::ClaimsOnly => {
            "; such a server has nothing to forward: let it issue JWTs, and split them (tokens = \"salted\")"
        }
        AskError::Status(401) => "; see `client_id` and `client_secret` in `introspection`",
        AskError::Status(403) => "; see that the gateway's client may introspect tokens",
        AskError::Status(_) | AskError::Unreachable(_) | AskError::Timeout | AskError::Metadata(_) => {
            "; see that it answers this machine, and `endpoint` in `introspection`"
        }
        _ => "; see `endpoint` in `introspection`",
    };
    format!("tokens of {}: {error}{cure}", issuer.issuer)
}
