//! `symbolon revoke`: asks the admin listener of a running process.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http_body_util::BodyExt as _;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode};
use symbolon::forward::{Forwarder, RequestBody, Roots};
use symbolon::keys::is_loopback;
use url::Url;

use super::{Outcome, input, private_text, show};

#[derive(Args)]
pub(super) struct Arguments {
    /// The admin listener
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4609")]
    admin: Url,
    /// The file with the operators' token
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// The issuer of the JWT that is meant; may be left out where there is one
    #[arg(long, value_name = "URL", requires = "jti")]
    issuer: Option<String>,
    /// The `jti` of the JWT that is meant; without it the opaque token is read from standard input
    #[arg(long, value_name = "VALUE")]
    jti: Option<String>,
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    symbolon::install_crypto();
    if arguments.admin.scheme() != "https" && !is_loopback(&arguments.admin) {
        return Err("the operators' token goes to another machine over https alone".into());
    }
    let operator = private_text(&arguments.token_file)?;
    let admin = arguments.admin.as_str().trim_end_matches('/');
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{admin}/revoke"))
        .header(AUTHORIZATION, format!("Bearer {}", *operator))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(RequestBody::full(form(&arguments)?.into()))?;
    let response = Forwarder::new(&Roots::of(&arguments.admin, None))?
        .forward(request, Duration::from_secs(10))
        .await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status == StatusCode::OK {
        return Ok(show("revoked\n")?);
    }
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let why = answer["error_description"].as_str().unwrap_or("no reason given");
    Err(format!("not revoked ({status}): {why}").into())
}

/// What is to be revoked.
fn form(arguments: &Arguments) -> io::Result<String> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    match &arguments.jti {
        Some(jti) => {
            form.append_pair("jti", jti);
            if let Some(issuer) = &arguments.issuer {
                form.append_pair("issuer", issuer);
            }
        }
        None => {
            form.append_pair("token", &input()?);
        }
    }
    Ok(form.finish())
}
