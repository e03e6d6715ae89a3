//! Tests of the roles: each starts the real thing on loopback, in this process or as the program.

#![allow(unreachable_pub, reason = "no other crate sees a test's modules")]

mod broker;
mod clients;
mod compatibility;
mod desync;
#[cfg(feature = "disk")]
mod disk;
mod documents;
#[cfg(feature = "redis")]
mod examples;
mod flow;
mod gateway;
mod introspection;
mod keys;
mod lookup;
mod phantom;
mod program;
#[cfg(feature = "redis")]
mod redis;
mod revocation;
mod rotation;
mod servers;
mod support;
mod token_service;
