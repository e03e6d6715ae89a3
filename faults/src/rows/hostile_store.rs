//! Row 22: somebody hostile writes to the store.

use std::num::NonZeroU8;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::Value;
use serde_json::json;
use symbolon_core::{
    Algorithm, IssuerPolicy, JwkSet, Lineage, Mark, Policy, Profile, Provenance, Record, RecordId,
    RecordType, Secret, Secrets, SigningKey, TokenKind, UnixTime, base64url, random,
};

use super::corrupted_entries::ALARM;
use super::{Row, Scene, pass};
use crate::client::Client;
use crate::deployment::{Deployment, Plan};
use crate::history::{Answer, AtGateway, Goes, TokenNumber, What, now};
use crate::judge::{Measured, seconds};
use crate::load::{Load, Mix, World};
use crate::process::patiently;
use crate::redis_server::RedisServer;

pub(crate) const ROW: Row = Row {
    number: "22",
    name: "hostile-store",
    fault: "hostile store writer",
    done: "Somebody who may write to the store, and does not hold the deployment secret or does, puts entries back over \
           the tombstones of revoked tokens, over and over; swaps entries; makes up entries for tokens of his own; \
           names a live token in a record, which is then refused, as he could delete it; writes into the log what is \
           no record, upon which gateways decide nothing that they cannot know; empties the log; and deletes it, upon \
           which the token service appends what it holds. A gateway is started anew after that. No token that was \
           refused is accepted again, and none that he made.",
    run: |scene| Box::pin(run(scene)),
};

const LOG: &str = "symbolon:{log}";
/// So many tokens are brought back each time.
const REVIVED: usize = 20;

async fn run(scene: Scene) -> Measured {
    let server = Arc::new(RedisServer::start(scene.kind, &[]).await);
    let deployment = Deployment::start(&scene, Plan::over(&scene, server.port)).await;
    let load = Load::start(&deployment, Mix::of(&scene)).await;
    let world = load.world.clone();
    let history = &world.history;
    let mut token_service = Client::to(deployment.token_service.address);
    let mut gateways: Vec<_> = world.gateways.iter().map(|at| Client::to(*at)).collect();
    pass(scene.span(10, 3)).await;

    history.begin("during", deployment.calm());
    let graves = revoke_some(&world, &server, &mut token_service, &mut gateways[0]).await;
    let revivals = Arc::new(AtomicUsize::new(0));
    let reviver = tokio::spawn(revive(
        server.clone(),
        world.clone(),
        graves.clone(),
        revivals.clone(),
    ));
    pass(scene.span(10, 3)).await;

    let made_up = made_up_entries(&deployment, &world, &server, &mut token_service).await;
    let mut refused = 0;
    for text in &made_up {
        for (gateway, client) in gateways.iter_mut().enumerate() {
            refused += usize::from(world.decide_on(client, gateway, text).await.is(401));
        }
    }
    let named = name_one(&world, &server, &mut token_service, &mut gateways).await;

    // What is no record.
    history.begin("during", deployment.recovering());
    let id: String = server.ask(&["XADD", LOG, "*", "r", "no record"]).await;
    let unreadable = now();
    // By then no round that counts is young enough for what is looked up.
    let out = AtGateway {
        unseen: Goes::Out,
        ..deployment.recovering().gateways[0]
    };
    let undecided = deployment.recovering().at_gateways(out);
    history.begin_at(unreadable + deployment.detect, "during", undecided);
    pass(deployment.detect + scene.span(5, 2)).await;
    history.begin("during", deployment.recovering());
    let removed: usize = server.ask(&["XDEL", LOG, &id]).await;
    assert_eq!(removed, 1);
    let readable = now();
    load.goes_on(readable).await;

    // A log without its records, which all hold.
    let _: usize = server.ask(&["XTRIM", LOG, "MAXLEN", "0"]).await;
    pass(scene.span(10, 3)).await;

    // No log at all; and somebody who has to read it.
    let _: usize = server
        .ask(&["DEL", LOG, "symbolon:{log}:id", "symbolon:{log}:under"])
        .await;
    let deleted = now();
    let held = deployment.token_service.metric("symbolon_records ").await;
    patiently("what was deleted is there again", async || {
        records(&server).await >= held
    })
    .await;
    let appended = deleted.elapsed();
    let mut away = deployment.recovering();
    away.may_be_away = true;
    history.begin("during", away);
    let gateway = &deployment.gateways[1];
    gateway.kill();
    gateway.run().await;
    gateway.ready().await;
    let restarted = history.begin("during", deployment.recovering());
    load.goes_on(restarted).await;
    pass(scene.span(10, 3)).await;

    reviver.abort();
    history.begin("after", deployment.calm());
    pass(scene.span(5, 2)).await;
    let mut measured = load.stop(&deployment).await;
    measured.figure("revoked tokens whose entries were put back", graves.len());
    measured.figure("so often", revivals.load(Ordering::Relaxed));
    measured.figure("entries made up or swapped", made_up.len());
    measured.figure("the log was unreadable for", seconds(readable - unreadable));
    measured.figure("records after the log was deleted", held);
    measured.figure("until they were in it again", seconds(appended));
    if refused != made_up.len() * gateways.len() {
        measured.fault("what somebody made up was not refused");
    }
    if !named {
        measured.fault("a record was not read that names a token");
    }
    let alarms: usize = deployment
        .gateways
        .iter()
        .map(|party| party.has_logged(ALARM))
        .sum();
    if alarms == 0 {
        measured.fault("no alarm in the log");
    }
    for party in deployment.parties() {
        if party.has_logged("panicked") > 0 {
            measured.fault("a panic");
        }
    }
    measured
}

/// Tokens that were revoked, one half of them unknown to both gateways; with the entries that they had.
async fn revoke_some(
    world: &World,
    server: &RedisServer,
    token_service: &mut Client,
    gateway: &mut Client,
) -> Vec<(TokenNumber, Vec<u8>)> {
    let mut graves = Vec::new();
    for number in 0..REVIVED {
        let token = world.issue_apart(token_service, number % 8).await;
        let entry = server.entry(&world.history.token(token).text).await;
        if number.is_multiple_of(2) {
            world.use_token(gateway, 0, token).await;
        }
        while !world.revoke(token_service, token).await {
            pass(Duration::from_millis(200)).await;
        }
        graves.push((token, entry));
    }
    graves
}

/// Puts the entries back over the tombstones for as long as it runs.
async fn revive(
    server: Arc<RedisServer>,
    world: Arc<World>,
    graves: Vec<(TokenNumber, Vec<u8>)>,
    count: Arc<AtomicUsize>,
) {
    loop {
        for (token, entry) in &graves {
            server.put_entry(&world.history.token(*token).text, entry).await;
            count.fetch_add(1, Ordering::Relaxed);
        }
        pass(Duration::from_millis(100)).await;
    }
}

/// Entries that somebody has made or moved, each under the key of a token that he holds.
async fn made_up_entries(
    deployment: &Deployment,
    world: &World,
    server: &RedisServer,
    token_service: &mut Client,
) -> Vec<String> {
    let issuer = format!("http://{}", deployment.token_service.address);
    let secret: Secret = std::fs::read_to_string(deployment.folder().join("secret"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let mut made_up = Vec::new();
    // Under a secret that he made, and under ours, which is more than he has.
    for secret in [Secret::generate(NonZeroU8::MIN), secret] {
        let (token, entry) = forge(&issuer, &deployment.api.url(), &Secrets::from(secret));
        server.put_entry(&token, &entry).await;
        made_up.push(token);
    }
    // The right form, and random octets.
    let mut entry = vec![1, 1];
    for _ in 0..34 {
        entry.extend(random::<16>());
    }
    let token = crate::load::made_up();
    server.put_entry(&token, &entry).await;
    made_up.push(token);
    // Another token's.
    let token = world.issue_apart(token_service, 0).await;
    let entry = server.entry(&world.history.token(token).text).await;
    let swapped = crate::load::made_up();
    server.put_entry(&swapped, &entry).await;
    made_up.push(swapped);
    made_up
}

/// A token signed by nobody of ours, and its entry under these secrets.
fn forge(issuer: &str, audience: &str, secrets: &Secrets) -> (String, Vec<u8>) {
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let algorithms = vec![Algorithm::Es256];
    let jwks = json!({ "keys": [key.public_jwk()] }).to_string();
    let keys = JwkSet::parse(jwks.as_bytes(), &algorithms, Provenance::Configured).unwrap();
    let policy = Policy::new([IssuerPolicy {
        issuer: issuer.to_owned(),
        profile: Profile::RFC9068,
        algorithms,
        tokens: TokenKind::Salted,
        max_lifetime: Duration::from_secs(3_600),
        keys: Some(Arc::new(keys)),
    }]);
    let now = UnixTime::from_secs(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs());
    let claims = json!({
        "iss": issuer, "sub": "mallory", "client_id": "client-0", "aud": audience, "iat": now.as_secs(),
        "exp": now.as_secs() + 600, "jti": base64url::encode(&random::<16>()),
    });
    let jwt = policy
        .verify_issued(key.sign("at+jwt", &claims).unwrap(), now)
        .unwrap();
    let (token, half) = jwt.split(Lineage::default()).unwrap();
    let entry = half.seal(&token, secrets);
    (token.expose().to_owned(), entry.as_bytes().to_vec())
}

/// Names a token that lives in a record; whether both gateways refuse it then.
async fn name_one(
    world: &World,
    server: &RedisServer,
    token_service: &mut Client,
    gateways: &mut [Client],
) -> bool {
    let token = world.issue_apart(token_service, 0).await;
    let text = world.history.token(token).text;
    for (gateway, client) in gateways.iter_mut().enumerate() {
        world.use_token(client, gateway, token).await;
    }
    let key = text.parse::<symbolon_core::OpaqueToken>().unwrap().entry_key();
    let mut id = [0; 16];
    id.copy_from_slice(&key.as_bytes()[..16]);
    let record = Record {
        kind: RecordType::Token,
        secret: 1,
        id: RecordId::from_bytes(id),
        keep_until: UnixTime::from_secs(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 3_600),
        before: UnixTime::default(),
        position: Mark::default(),
    };
    let mut append = redis::cmd("XADD");
    append.arg(LOG).arg("*").arg("r").arg(&record.to_bytes()[..]);
    let sent = now();
    server.try_query(&append).await.unwrap();
    // A revocation that nobody acknowledged: from now on it may be refused.
    let unacknowledged = Answer::Status {
        code: 503,
        retry_after: true,
    };
    world.history.note(What::Revoke(token), sent, unacknowledged);
    let mut refused = true;
    for (gateway, client) in gateways.iter_mut().enumerate() {
        let mut answer = Answer::None("not asked");
        for _ in 0..6_000 {
            answer = world.use_token(client, gateway, token).await;
            if answer.is(401) {
                break;
            }
            pass(Duration::from_millis(10)).await;
        }
        refused &= answer.is(401);
    }
    refused
}

/// Each with its id, and its fields.
type Appends = Vec<(String, Vec<(Value, Vec<u8>)>)>;

/// How many records the log has.
#[allow(clippy::cast_precision_loss, reason = "they are few")]
async fn records(server: &RedisServer) -> f64 {
    let appends: Appends = server.ask(&["XRANGE", LOG, "-", "+"]).await;
    let octets = appends
        .iter()
        .flat_map(|(_, fields)| fields)
        .map(|(_, octets)| octets.len());
    octets.sum::<usize>() as f64 / Record::OCTETS as f64
}
