//! What the tests start and look at.

mod api;
mod deployment;
mod fake_server;
mod http;
mod output;
mod program;

pub use api::Api;
pub use deployment::{
    CLIENT, CLIENT_SECRET, Deployment, FaultyStore, OPERATOR, SCOPE, free_port, minting, settings,
};
pub use fake_server::FakeServer;
pub use http::{Answer, form, get, post, request};
pub use output::{canary, file};
pub use program::Program;
