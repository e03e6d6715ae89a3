//! What operators' commands have in common: they ask the admin listener of a running process.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use form_urlencoded::Serializer;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode};
use serde_json::Value;
use symbolon::forward::{Forwarder, RequestBody, Roots};
use symbolon::keys::is_loopback;
use url::Url;
use zeroize::Zeroizing;

use super::{Failure, private_text};

#[derive(Args)]
pub(super) struct Operator {
    /// The admin listener
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4609")]
    admin: Url,
    /// The file with the operators' token, mode 0600
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
}

const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 1024 * 1024;

/// What the listener says.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl Operator {
    /// Asks. What stands in the form is read after it is certain that it may be sent.
    pub(super) async fn ask<'a>(
        &self,
        path: &str,
        form: impl FnOnce() -> std::io::Result<Vec<(&'a str, Zeroizing<String>)>>,
    ) -> Result<Answer, Failure> {
        symbolon::install_crypto();
        if self.admin.scheme() != "https" && !is_loopback(&self.admin) {
            return Err("the operators' token goes to another machine over https alone".into());
        }
        let operator = private_text(&self.token_file)?;
        let mut body = Serializer::new(String::new());
        for (name, value) in form()? {
            body.append_pair(name, &value);
        }
        let admin = self.admin.as_str().trim_end_matches('/');
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{admin}{path}"))
            .header(AUTHORIZATION, format!("Bearer {}", *operator))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(RequestBody::full(body.finish().into()))?;
        let response = Forwarder::new(&Roots::of(&self.admin, None))?
            .forward(request, TIMEOUT)
            .await
            .map_err(|error| format!("{}: {error}; see that the process runs, and --admin", self.admin))?;
        let status = response.status();
        let body = symbolon::http::read(axum::body::Body::new(response.into_body()), MAX_ANSWER);
        let body = tokio::time::timeout(TIMEOUT, body).await.ok().flatten();
        let body = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
        Ok(Answer { status, body })
    }
}

impl Answer {
    /// What it said, if it did it. Whatever else stands there may say 200 as well, but not in these words.
    pub(super) fn done(self, not_done: &str, is_done: impl FnOnce(&Value) -> bool) -> Result<Value, Failure> {
        if self.status == StatusCode::OK && is_done(&self.body) {
            return Ok(self.body);
        }
        let why = self.body["error_description"]
            .as_str()
            .unwrap_or("what answers there is no admin listener: see --admin")
            .replace(char::is_control, " ");
        Err(format!("{not_done} ({}): {why}", self.status).into())
    }
}
