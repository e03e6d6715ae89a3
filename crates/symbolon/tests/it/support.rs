//! What the tests start and look at.

mod api;
mod deployment;
mod fake_server;
mod gateway;
mod http;
mod issuer;
mod output;
mod program;
mod raw;
mod upstream;

pub use api::Api;
pub use deployment::{
    CLIENT, CLIENT_SECRET, Deployment, FaultyStore, OPERATOR, SCOPE, free_port, minting, settings,
};
pub use fake_server::FakeServer;
pub use gateway::{Second, with_token};
pub use http::{Answer, form, get, post, request};
pub use issuer::Issuer;
pub use output::{canary, file};
pub use program::Program;
pub use raw::{Message, RawConnection, eventually, within};
pub use upstream::{OK, Upstream};
