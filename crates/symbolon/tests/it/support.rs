//! What the tests start and look at.

mod api;
mod browser;
mod deployment;
mod foreign;
mod http;
mod keycloak;
mod oauth_client;
mod oidc_provider;
mod output;
mod program;

pub use api::Api;
pub use browser::Browser;
pub use deployment::{CLIENT, CLIENT_SECRET, Deployment, FaultyStore, OPERATOR, SCOPE, free_port, settings};
pub use http::{Answer, form, get, post, request};
pub use keycloak::{Keycloak, Realm};
pub use oauth_client::OauthClient;
pub use oidc_provider::OidcProvider;
pub use output::{canary, file};
pub use program::Program;
