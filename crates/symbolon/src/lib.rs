//! Symbolon: split tokens for any OAuth 2.0 authorization server.
//!
//! A JWT access token is split in two. The client holds the JWS Signature and presents it as an opaque token. The
//! gateways' store holds the rest, sealed under a key that only the signature yields. A gateway looks the entry up,
//! glues the halves, verifies the whole and forwards the request. The modules are that sentence, left to right:
//! [`token_service`] → [`publish`] → [`store`] → [`gateway`]. `docs/ARCHITECTURE.md` walks one token through them.

#![cfg_attr(not(test), warn(clippy::expect_used, clippy::unwrap_used))]

pub mod admin;
pub mod config;
pub mod gateway;
pub mod keys;
pub mod revocations;
pub mod store;
pub mod telemetry;
pub mod token_service;
