//! `symbolon revoke`: asks the admin listener of a running process.

use clap::Args;
use zeroize::Zeroizing;

use super::operator::Operator;
use super::{Outcome, input, show};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: Operator,
    /// The issuer of the JWT that is meant; may be left out where there is one
    #[arg(long, value_name = "URL", requires = "jti")]
    issuer: Option<String>,
    /// The jti of the JWT that is meant; without it the opaque token is read from standard input
    #[arg(long, value_name = "VALUE")]
    jti: Option<String>,
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    let Arguments {
        operator,
        issuer,
        jti,
    } = arguments;
    let form = || {
        let Some(jti) = jti else {
            return Ok(vec![("token", input()?)]);
        };
        let named = issuer.map(|issuer| ("issuer", Zeroizing::new(issuer)));
        Ok([("jti", Zeroizing::new(jti))].into_iter().chain(named).collect())
    };
    let answer = operator.ask("/revoke", form).await?;
    answer.done("not revoked", |said| said["status"] == "revoked")?;
    Ok(show("revoked\n")?)
}
