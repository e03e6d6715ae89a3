//! Tests of the roles: each starts the real thing on loopback, in this process or as the program.

mod broker;
mod documents;
mod flow;
mod keys;
mod support;
