//! The gateway as a reverse proxy, between clients and resource servers that a test has in hand.

mod bodies;
mod cache;
mod connections;
mod cors;
mod denials;
mod fields;
mod limits;
mod outages;
mod routing;
mod shutdown;
mod tls;
