//! A gateway before a resource server made of a socket, and a second one made of its parts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use symbolon::gateway::{self, Gateway};
use symbolon::keys::Issuers;
use symbolon::l1;
use symbolon::listener::{self, Limits, Stop};
use symbolon::resolve::Resolver;
use symbolon::revocations;
use symbolon::shared::Shared;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Deployment, FaultyStore, Message, RawConnection, Upstream};

impl Deployment {
    /// Starts it with that resource server.
    pub async fn before(upstream: &Upstream) -> Self {
        Self::before_with(upstream, |_| {}).await
    }

    /// Starts it with that resource server and other settings of the gateway.
    pub async fn before_with(upstream: &Upstream, change: impl FnOnce(&mut gateway::Config)) -> Self {
        Self::start_with(|config| {
            let gateway = config.gateway.as_mut().unwrap();
            gateway.routes[0].resource_server = upstream.url();
            change(gateway);
        })
        .await
    }

    /// A client's connection to the gateway.
    pub async fn client(&self) -> RawConnection {
        RawConnection::connect(self.gateway).await
    }

    /// One request on a connection of its own.
    pub async fn exchange(&self, request: impl AsRef<[u8]>) -> Message {
        let mut client = self.client().await;
        client.send(request).await;
        client.answer().await
    }

    /// Another gateway on the same store, with those settings.
    pub async fn second_gateway(
        &self,
        settings: gateway::Config,
        issuers: Arc<Issuers>,
        limits: Limits,
    ) -> Second {
        self.gateway_before(self.store.clone(), settings, issuers, limits)
            .await
    }

    /// The same, with a way of its own to the store.
    pub async fn gateway_before(
        &self,
        store: Arc<FaultyStore>,
        settings: gateway::Config,
        issuers: Arc<Issuers>,
        limits: Limits,
    ) -> Second {
        let config = revocations::Config {
            max_bytes: 1024 * 1024,
            detect: Duration::from_secs(2),
            tolerate: Duration::ZERO,
        };
        let shared = Shared::new(
            issuers,
            store,
            config,
            self.process.secrets.clone(),
            self.clock.clone(),
        );
        let resolver = Resolver::new(l1::Config::DEFAULT, &shared);
        let resolver = resolver.asking(settings.fallback.as_ref(), &shared).unwrap();
        let gateway = Gateway::new(settings, Arc::new(resolver)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, shutdown) = listener::shutdown();
        let served = listener::serve(listener, Arc::new(gateway), limits, shutdown);
        Second {
            address,
            stop,
            served: tokio::spawn(served),
        }
    }
}

/// It runs until it is dropped, or stopped.
pub struct Second {
    pub address: SocketAddr,
    stop: Stop,
    served: JoinHandle<()>,
}

impl Second {
    /// Stops accepting, and ends when what is under way is done, or cut off.
    pub async fn stop(self) {
        self.stop.now();
        self.served.await.unwrap();
    }
}

/// A request with a token, without a body: a method and target, and fields, each as a line.
pub fn with_token(line: &str, token: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().flat_map(|field| [field, "\r\n"]).collect();
    format!("{line} HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer {token}\r\n{fields}\r\n")
}
