//! `symbolon lookup`: what the store of a running process holds of a token.

use std::fmt::Write as _;

use clap::Args;
use serde_json::Value;
use zeroize::Zeroizing;

use super::operator::Operator;
use super::{Outcome, input, show};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: Operator,
    /// Show the JWT's header and claims as well
    #[arg(long)]
    claims: bool,
}

/// What is shown of the answer, in this order.
const SHOWN: [&str; 7] = [
    "state",
    "revoked_by",
    "reason",
    "expires_at",
    "grant",
    "session",
    "mark",
];

pub(super) async fn run(arguments: Arguments) -> Outcome {
    let Arguments { operator, claims } = arguments;
    let form = || {
        Ok(vec![
            ("token", input()?),
            ("claims", Zeroizing::new(claims.to_string())),
        ])
    };
    let answer = operator.ask("/lookup", form).await?;
    let found = answer.done("not looked up", |said| said["state"].is_string())?;
    Ok(show(&text(&found))?)
}

fn text(found: &Value) -> String {
    let mut text = String::new();
    for name in SHOWN {
        let value = match &found[name] {
            Value::Null => continue,
            Value::String(value) => value.clone(),
            value => value.to_string(),
        };
        let _ = writeln!(text, "{:<11} {value}", name.replace('_', " "));
    }
    for part in ["header", "claims"] {
        if let Some(value) = found.get(part) {
            let _ = writeln!(text, "{part} {value:#}");
        }
    }
    text
}
