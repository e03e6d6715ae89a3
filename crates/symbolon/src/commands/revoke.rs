//! `symbolon revoke`: asks the admin listener of a running process.

use clap::Args;
use zeroize::Zeroizing;

use super::operator::Operator;
use super::{Outcome, input, show};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: Operator,
    /// The issuer of what is meant; may be left out where there is one
    #[arg(long, value_name = "URL", requires = "named")]
    issuer: Option<String>,
    #[command(flatten)]
    named: Named,
}

/// Without one of them the opaque token is read from standard input.
#[derive(Args)]
#[group(id = "named", multiple = false)]
struct Named {
    /// The JWT with that jti
    #[arg(long, value_name = "VALUE")]
    jti: Option<String>,
    /// Every token of the grant, past and future; `symbolon lookup` shows a token's
    #[arg(long, value_name = "VALUE", conflicts_with = "issuer")]
    grant: Option<String>,
    /// Every token of the session, past and future
    #[arg(long, value_name = "VALUE")]
    sid: Option<String>,
    /// Every token of the subject up to now
    #[arg(long, value_name = "VALUE")]
    sub: Option<String>,
    /// Every token of the client up to now
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// Every token of the issuer up to now
    #[arg(long)]
    all_of_issuer: bool,
}

impl Named {
    /// What it is called in the form.
    fn field(self) -> Option<(&'static str, String)> {
        let all = self.all_of_issuer.then(|| "true".to_owned());
        [
            ("jti", self.jti),
            ("grant", self.grant),
            ("sid", self.sid),
            ("sub", self.sub),
            ("client_id", self.client),
            ("all", all),
        ]
        .into_iter()
        .find_map(|(name, value)| Some((name, value?)))
    }
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    let Arguments {
        operator,
        issuer,
        named,
    } = arguments;
    let form = || {
        let Some((name, value)) = named.field() else {
            return Ok(vec![("token", input()?)]);
        };
        let issuer = issuer.map(|issuer| ("issuer", issuer));
        let fields = [(name, value)].into_iter().chain(issuer);
        Ok(fields
            .map(|(name, value)| (name, Zeroizing::new(value)))
            .collect())
    };
    let answer = operator.ask("/revoke", form).await?;
    answer.done("not revoked", |said| said["status"] == "revoked")?;
    Ok(show("revoked\n")?)
}
