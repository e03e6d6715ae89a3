//! `symbolon check`: whether a file is right, and with `--live` whether what it names is there and fits.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use symbolon::config::Config;
use symbolon::keys;
use symbolon::token_service::broker::Mode;
use symbolon::token_service::introspection::Caller;
use symbolon::token_service::{self, Source};

use super::{Outcome, show};

mod introspection;
mod live;
mod token;

#[derive(Args)]
pub(super) struct Arguments {
    /// The file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Ask the authorization server, the store and the APIs as well
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    client: token::Client,
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    let file = arguments.config.display().to_string();
    let config = match Config::read(&arguments.config) {
        Ok(config) => config,
        Err(mistakes) => {
            let text = mistakes.to_string();
            let (each, count) = text.rsplit_once('\n').unwrap_or(("", &text));
            show(&format!("{each}\n"))?;
            return Err(count.into());
        }
    };
    show(&format!("{file} is right: {}\n", roles(&config)))?;
    for issuer in &config.issuers {
        show(&settings(issuer))?;
    }
    for caller in config.token_service.iter().flat_map(|role| &role.callers) {
        show(&may_hear(caller))?;
    }
    for advice in config.advice() {
        show(&format!("note   {advice}\n"))?;
    }
    if arguments.live {
        live::run(&config, &arguments.client).await?;
    }
    Ok(())
}

/// How an issuer's tokens look to the roles, and where that is not as its profile has it.
fn settings(issuer: &keys::Config) -> String {
    let profile = &issuer.profile;
    let mut text = format!(
        "tokens of {}\n       profile = \"{}\"\n",
        issuer.issuer, profile.name
    );
    for ((name, value), (_, original)) in profile.settings().into_iter().zip(profile.original().settings()) {
        let _ = if value == original {
            writeln!(text, "       {name} = {value}")
        } else {
            writeln!(text, "       {name} = {value} # the profile has {original}")
        };
    }
    text
}

/// What a caller of the introspection endpoint may hear.
fn may_hear(caller: &Caller) -> String {
    let jwt = if caller.jwt { ", and has their JWTs" } else { "" };
    let audiences = caller.audiences.join(", ");
    format!(
        "caller {}\n       hears the claims of tokens for {audiences}{jwt}\n",
        caller.id
    )
}

/// What the process will be.
fn roles(config: &Config) -> String {
    let token_service = config
        .token_service
        .as_ref()
        .map(|role| format!("token service ({})", source(role)));
    let gateway = config.gateway.as_ref().map(|role| match role.routes.len() {
        1 => "gateway with 1 route".to_owned(),
        routes => format!("gateway with {routes} routes"),
    });
    let admin = config.admin.as_ref().map(|_| "admin".to_owned());
    let roles = [token_service, gateway, admin].into_iter().flatten();
    roles.collect::<Vec<_>>().join(", ")
}

fn source(role: &token_service::Config) -> &'static str {
    match &role.source {
        Source::Mint(_) => "mint",
        Source::Broker(broker) => match broker.mode {
            Mode::Endpoint(_) => "broker, endpoint",
            Mode::Origin { .. } => "broker, origin",
        },
    }
}
