//! stub
use crate::{admin, gateway, keys, revocations, store, telemetry, token_service};
use std::path::PathBuf;
/// stub
#[derive(Debug)]
pub struct Config {
    /// s
    pub secrets: Option<symbolon_core::Secrets>,
    /// s
    pub data: PathBuf,
    /// s
    pub store: store::Config,
    /// s
    pub revocations: revocations::Config,
    /// s
    pub issuers: Vec<keys::Config>,
    /// s
    pub token_service: Option<token_service::Config>,
    /// s
    pub gateway: Option<gateway::Config>,
    /// s
    pub admin: Option<admin::Config>,
    /// s
    pub log: telemetry::Format,
}
/// s
pub fn refuse_readable_by_others(_: &std::path::Path) -> Result<(), String> {
    Ok(())
}

impl Config {
    /// s
    pub fn read(_: &std::path::Path) -> Result<Self, String> {
        Err("stub".into())
    }
}
