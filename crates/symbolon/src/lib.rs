//! Symbolon: split tokens for any OAuth 2.0 authorization server.
//!
//! A JWT access token is split in two. The client holds the JWS Signature and presents it as an opaque token. The
//! gateways' store holds the rest, sealed under a key that only the signature yields. A gateway looks the entry up,
//! glues the halves, verifies the whole and forwards the request. The modules are that sentence, left to right:
//! [`token_service`] → [`publish`] → [`store`] → [`gateway`]. `docs/ARCHITECTURE.md` walks one token through them.

#![cfg_attr(not(test), warn(clippy::expect_used, clippy::unwrap_used))]

pub mod clock;
pub mod config;
pub mod private_file;
pub mod process;

pub mod introspect;
pub mod keys;
pub mod l1;
pub mod metrics;
pub mod resolve;
pub mod revocations;
pub mod revoke;
pub mod shared;

mod flights;
mod form;
pub mod forward;
pub mod http;
pub mod listener;
mod paths;
mod request;
mod sync;

pub mod token_service;

pub mod publish;
pub mod store;

pub mod gateway;

pub mod admin;
pub mod demo;
pub mod telemetry;

/// Makes the one implementation of cryptography known to TLS. Harmless to repeat.
pub fn install_crypto() {
    // It fails if one is installed already: this one, since the process has no other.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
