//! `symbolon revoke`: asks the admin listener of a running process.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http_body_util::BodyExt as _;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode};
use symbolon::forward::{Forwarder, RequestBody};
use zeroize::Zeroizing;

use super::{Outcome, input};

#[derive(Args)]
pub(super) struct Arguments {
    /// The admin listener
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4609")]
    admin: String,
    /// The file with the operators' token
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// The issuer of the JWT that is meant; may be left out where there is one
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// The `jti` of the JWT that is meant; without it the opaque token is read from standard input
    #[arg(long, value_name = "VALUE")]
    jti: Option<String>,
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    symbolon::install_crypto();
    let operator = Zeroizing::new(std::fs::read_to_string(&arguments.token_file)?);
    let form = match &arguments.jti {
        Some(jti) => {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.append_pair("jti", jti);
            if let Some(issuer) = &arguments.issuer {
                form.append_pair("issuer", issuer);
            }
            form.finish()
        }
        None => form_urlencoded::Serializer::new(String::new())
            .append_pair("token", &input()?)
            .finish(),
    };
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{}/revoke", arguments.admin.trim_end_matches('/')))
        .header(AUTHORIZATION, format!("Bearer {}", operator.trim_end()))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(RequestBody::full(form.into()))?;
    let response = Forwarder::new(None)?
        .forward(request, Duration::from_secs(10))
        .await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status == StatusCode::OK {
        println!("revoked");
        return Ok(());
    }
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let why = answer["error_description"].as_str().unwrap_or("no reason given");
    Err(format!("not revoked ({status}): {why}").into())
}
