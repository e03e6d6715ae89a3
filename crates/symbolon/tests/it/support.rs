//! What the tests start and look at.

mod api;
mod browser;
mod deployment;
mod fake_server;
mod foreign;
mod gateway;
mod http;
mod issuer;
mod keycloak;
mod oauth_client;
mod oidc_provider;
mod output;
mod program;
mod raw;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "redis")]
pub mod relay;
mod upstream;

pub use api::Api;
pub use browser::Browser;
pub use deployment::{
    CALLER, CALLER_SECRET, CLIENT, CLIENT_SECRET, Deployment, EDGE, EDGE_SECRET, FaultyStore, OPERATOR,
    SCOPE, caller, free_port, minting, settings,
};
pub use fake_server::{Asked, FakeServer};
pub use foreign::{is_there, root};
pub use gateway::{Second, with_token};
pub use http::{Answer, form, get, post, request, target};
pub use issuer::Issuer;
pub use keycloak::Keycloak;
pub use oauth_client::{Library, OauthClient, OauthClients, SECRET, Told};
pub use oidc_provider::OidcProvider;
pub use output::{canary, file, leave};
pub use program::Program;
pub use raw::{Message, RawConnection, eventually, within};
pub use upstream::{OK, Upstream};
