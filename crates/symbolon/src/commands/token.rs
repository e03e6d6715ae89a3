//! `symbolon token`: the pattern by hand, for learning, scripts and debugging.

use clap::Subcommand;
use symbolon_core::{Lineage, OpaqueToken, TokenKind, UnverifiedJwt, base64url};
use zeroize::Zeroizing;

use super::{Outcome, input, show};

#[derive(Subcommand)]
pub(super) enum Command {
    /// JWT in: the opaque token that its client would hold, the entry key, the JWS signing input
    Split {
        /// Add 16 random octets, so that the JWT does not contain the client's token
        #[arg(long)]
        salted: bool,
    },
    /// Opaque token and JWS signing input in, a line each: the JWT, not verified
    Glue,
    /// Opaque token in: its entry key
    Key,
    /// JWT in: its header and payload, not verified
    Show,
}

pub(super) fn run(command: &Command) -> Outcome {
    let text = input()?;
    match command {
        Command::Split { salted } => {
            let kind = if *salted {
                TokenKind::Salted
            } else {
                TokenKind::Signature
            };
            let jwt = UnverifiedJwt::parse(text)?;
            let (token, _) = jwt.split(kind, Lineage::default())?;
            show(&format!(
                "opaque token   {}\nentry key      {}\nsigning input  {}\n",
                token.expose(),
                token.entry_key(),
                jwt.signing_input()
            ))?;
        }
        Command::Glue => {
            let (token, signing_input) = text.split_once('\n').ok_or("two lines are needed")?;
            let token: OpaqueToken = token.trim().parse()?;
            let signature = token.expose().split('.').next().unwrap_or_default();
            let jwt = Zeroizing::new(format!("{}.{signature}", signing_input.trim()));
            show(&format!("{}\n", UnverifiedJwt::parse(jwt)?.expose()))?;
        }
        Command::Key => show(&format!("{}\n", text.parse::<OpaqueToken>()?.entry_key()))?,
        Command::Show => {
            let jwt = UnverifiedJwt::parse(text)?;
            let parts: Result<Vec<_>, _> = jwt.signing_input().split('.').map(pretty).collect();
            show(&format!("{}\n", parts?.join("\n")))?;
        }
    }
    Ok(())
}

/// The JSON of a part, indented.
pub(super) fn pretty(part: &str) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let octets = base64url::decode(part).ok_or("a part is not canonical base64url")?;
    let value: serde_json::Value = serde_json::from_slice(&octets)?;
    Ok(format!("{value:#}"))
}
