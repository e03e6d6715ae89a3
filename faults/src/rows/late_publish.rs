//! Row 8: an entry comes into the store after its token was revoked.

use std::sync::Arc;
use std::time::Duration;

use symbolon_core::{base64url, sha256};

use super::{Row, Scene, pass};
use crate::client::Client;
use crate::deployment::{Deployment, Plan, Role};
use crate::history::{Answer, TokenNumber, What, now};
use crate::judge::Measured;
use crate::load::{Load, Mix, World};
use crate::process::patiently;
use crate::redis_server::RedisServer;
use crate::relay::Relay;

pub(crate) const ROW: Row = Row {
    number: "8",
    name: "late-publish",
    fault: "late publish after a revocation",
    done: "The token service stands before an authorization server, tokens are of kind `signature`. Under load: the \
           authorization server gives the same JWT twice, a proxy holds up the second publish until the token is \
           revoked and that is acknowledged, and lets it go then. Then a first publish is held up, an operator revokes \
           everything of its client, and it is let go: the token is handed out to nobody, or refused everywhere. Then \
           tokens are used and revoked, and their entries published once more, as they were.",
    run: |scene| Box::pin(run(scene)),
};

/// The client of this row alone.
const CLIENT: usize = 7;
/// What a publish says, and nothing else.
const PUBLISH: &[u8] = b"\r\nNX\r\n$3\r\nGET\r\n";

async fn run(scene: Scene) -> Measured {
    let server = RedisServer::start(scene.kind, &[]).await;
    let relay = Relay::start(server.port).await;
    let plan = Plan {
        is_broker: true,
        tokens: "signature",
        ..Plan::with_detour(&scene, server.port, Role::TokenService, relay.port)
    };
    let deployment = Deployment::start(&scene, plan).await;
    let load = Load::start(&deployment, Mix::of(&scene)).await;
    let history = &load.world.history;
    pass(scene.span(10, 3)).await;
    history.begin("during", deployment.calm());

    let row = Late {
        server: &server,
        relay: &relay,
        deployment: &deployment,
        world: &load.world,
    };
    let times = if scene.quick { 3 } else { 20 };
    let (mut late, mut handed_out, mut again, mut revived) = (0, 0, 0, 0);
    for _ in 0..times {
        let _alone = load.pause_writes().await;
        late += usize::from(row.same_token_again().await);
        handed_out += usize::from(row.revoked_by_operator().await);
        for _ in 0..2 {
            revived += usize::from(row.published_again().await);
            again += 1;
        }
    }
    history.begin("after", deployment.calm());
    pass(scene.span(10, 3)).await;

    let mut measured = load.stop(&deployment).await;
    measured.figure("publishes held up until the token was revoked", late);
    measured.figure(
        "tokens of a client that was revoked while they were published",
        format!("{times}, of them handed out and refused everywhere {handed_out}"),
    );
    measured.figure(
        "entries published again after the revocation",
        format!("{again}, of them taken by the store {revived}"),
    );
    if late < times {
        measured.fault("nothing came late");
    }
    for _ in 0..revived {
        measured.fault("an entry came back in the place of a tombstone");
    }
    measured
}

struct Late<'a> {
    server: &'a RedisServer,
    relay: &'a Relay,
    deployment: &'a Deployment,
    world: &'a Arc<World>,
}

impl Late<'_> {
    /// A token is asked for, its publish held up, that done, and its publish let go.
    async fn meanwhile<T>(&self, what: impl AsyncFnOnce() -> T) -> (Option<TokenNumber>, T) {
        let hold = |holds: bool| {
            self.relay
                .change(|rules| rules.holds_requests_with = holds.then_some(PUBLISH));
        };
        let before = self.relay.held();
        hold(true);
        let mut client = self.token_service();
        let mut issue = async || loop {
            let token = self.world.issue(&mut client, CLIENT).await;
            // Whom a busy machine told 503 before it came to that asks again.
            if token.is_some() || self.relay.held() > before {
                return token;
            }
            pass(Duration::from_millis(100)).await;
        };
        tokio::join!(issue(), async {
            patiently("the publish is held up", async || self.relay.held() > before).await;
            let done = what().await;
            hold(false);
            done
        })
    }

    /// A token is published, published again and revoked in between; whether the second publish came last.
    async fn same_token_again(&self) -> bool {
        let authorization_server = &self.deployment.authorization_server;
        authorization_server.repeat(true);
        let token = self.token().await;
        let (given, ()) = self.meanwhile(async || self.revoke(token).await).await;
        authorization_server.repeat(false);
        // Who would be given it now would be given what is dead.
        given.is_none()
    }

    /// A token is published, and an operator revokes all of its client in between; whether it was handed out.
    async fn revoked_by_operator(&self) -> bool {
        let client = format!("client-{CLIENT}");
        let (token, (sent, received)) = self
            .meanwhile(async || {
                let mut operator = Client::to(self.deployment.token_service.admin);
                let bearer = Some(self.deployment.operator.as_str());
                let sent = now();
                patiently("revoked by an operator", async || {
                    let form = [("client_id", client.as_str())];
                    operator.post_as(bearer, "/revoke", &form).await.0.is(200)
                })
                .await;
                (sent, now())
            })
            .await;
        if let Some(token) = token {
            let answer = Answer::Status {
                code: 200,
                retry_after: false,
            };
            self.world
                .history
                .note_between(What::Revoke(token), sent, received, answer);
        }
        token.is_some()
    }

    /// A token is used, revoked, and its entry published once more; whether the store took it.
    async fn published_again(&self) -> bool {
        let token = self.token().await;
        let text = self.world.history.token(token).text;
        let key = format!("symbolon:e:{}", base64url::encode(&sha256(text.as_bytes())));
        let entry: Vec<u8> = self.server.ask(&["GET", &key]).await;
        let live = redis::Value::BulkString(entry.clone());
        let ends_at: i64 = self.server.ask(&["PEXPIRETIME", &key]).await;
        for gateway in 0..self.world.gateways.len() {
            let mut user = Client::to(self.world.gateways[gateway]);
            self.world.use_token(&mut user, gateway, token).await;
        }
        self.revoke(token).await;
        let mut publish = redis::cmd("SET");
        publish
            .arg(&key)
            .arg(entry)
            .arg("NX")
            .arg("GET")
            .arg("PXAT")
            .arg(ends_at);
        let found = self.server.try_query(&publish).await.unwrap();
        // Without a tombstone it finds itself.
        found == redis::Value::Nil || found == live
    }

    /// A token of this row's own.
    async fn token(&self) -> TokenNumber {
        let mut client = self.token_service();
        let mut token = None;
        patiently("a token", async || {
            token = self.world.issue(&mut client, CLIENT).await;
            token.is_some()
        })
        .await;
        token.unwrap()
    }

    async fn revoke(&self, token: TokenNumber) {
        let mut client = self.token_service();
        patiently("revoked", async || self.world.revoke(&mut client, token).await).await;
    }

    fn token_service(&self) -> Client {
        Client::to(self.deployment.token_service.address)
    }
}
