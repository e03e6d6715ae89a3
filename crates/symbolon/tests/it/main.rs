//! Tests of the roles: each starts the real thing on loopback, in this process or as the program.

#![allow(unreachable_pub, reason = "no other crate sees a test's modules")]

mod documents;
mod flow;
mod program;
mod revocation;
mod servers;
mod support;
mod token_service;
