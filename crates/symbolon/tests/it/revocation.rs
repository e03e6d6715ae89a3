//! Revocation: by clients (RFC 7009), by operators, and what a hostile holder or store makes of it.

use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::json;
use symbolon::admin;
use symbolon::clock::Clock as _;
use symbolon::store::{EntryStore as _, Published};
use symbolon::token_service::{Client, mint};
use symbolon_core::{
    Algorithm, GrantId, Lineage, Mark, OpaqueToken, Record, RecordType, Stored, TokenKind, UnverifiedJwt,
    base64url, random, sha256,
};
use zeroize::Zeroizing;

use crate::support::{
    Answer, CLIENT, CLIENT_SECRET, Deployment, OPERATOR, SCOPE, canary, form, get, minting, post, request,
};

const OTHER_CLIENT: &str = "canary-other-client";
const OTHER_SECRET: &str = "canary-other-secret";

// --- By clients

// RV-01, RV-02, RFC 7009 §2.1
#[tokio::test]
async fn a_client_revokes_its_own_token_whatever_it_takes_it_for() {
    let deployment = Deployment::start().await;
    for hint in ["", "access_token", "refresh_token", "canary:no-such-hint"] {
        let token = deployment.token().await;
        assert_eq!(deployment.call(&token).await.status, 200);
        let answer = revoke(&deployment, &[("token", &token), ("token_type_hint", hint)]).await;
        assert_is_done(&answer);
        assert_is_refused_by_the_gateway(&deployment, &token).await;
    }
}

// P2, PROTOCOL §6: to a gateway whose clock is behind by as much as it may be, the token lives.
#[tokio::test]
async fn what_has_just_expired_is_revoked_all_the_same() {
    let deployment = Deployment::start().await;
    for lifetime in [600_u64, 20] {
        let mut claims = claims(&deployment, &format!("just-expired-{lifetime}"));
        claims["exp"] = json!(deployment.clock.now().as_secs() + lifetime);
        let (token, publish) = split(&deployment, &sign_claims(&deployment, &claims));
        assert_eq!(publish.await, Published::Inserted);
        let before = log(&deployment).await.len();
        deployment.clock.advance(Duration::from_secs(lifetime + 15));
        assert_is_done(&revoke(&deployment, &[("token", &token)]).await);
        let written = log(&deployment).await.split_off(before);
        assert_eq!(kinds(&written), [RecordType::Token, RecordType::Jti]);
    }
}

// RV-01
#[tokio::test]
async fn another_clients_token_lives_on() {
    let deployment = with_two_clients().await;
    let token = deployment.token().await;
    let answer = revoke_as_other(&deployment, &token).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (400, "invalid_grant")
    );
    assert_eq!(answer.field("cache-control"), "no-store");
    assert_eq!(deployment.call(&token).await.status, 200);
    assert_is_done(&deployment.revoke(&token).await);
    assert_is_refused_by_the_gateway(&deployment, &token).await;
}

// RV-02, RFC 7009 §2.2
#[tokio::test]
async fn what_is_dead_or_was_never_alive_is_answered_200() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    let unknown = unknown_token();
    let jwt = jwt_behind(&deployment, &token).await;
    for dead in [
        unknown.as_str(),
        "not a token",
        "canary-refresh-token-0123456789",
        &token[1..],
        &format!("{token}AA"),
        &format!("{token}."),
        &jwt,
        "\u{0}\u{7f}\u{e9}",
    ] {
        assert_is_done(&deployment.revoke(dead).await);
    }
    assert_eq!(
        deployment.call(&token).await.status,
        200,
        "none of them is this one"
    );
    deployment.clock.advance(Duration::from_secs(601));
    assert_is_done(&deployment.revoke(&token).await);
}

// RV-01, RFC 7009 §2.1, BR-02
#[tokio::test]
async fn a_revocation_needs_a_client_and_a_token() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    let wrong = "canary-wrong-secret";
    canary(wrong);
    for (parameters, status, code) in [
        (vec![("token", token.as_str())], 401, "invalid_client"),
        (
            vec![("token", &token), ("client_id", CLIENT)],
            401,
            "invalid_client",
        ),
        (
            vec![("token", &token), ("client_id", CLIENT), ("client_secret", wrong)],
            401,
            "invalid_client",
        ),
        (
            vec![("client_id", CLIENT), ("client_secret", CLIENT_SECRET)],
            400,
            "invalid_request",
        ),
        (
            vec![
                ("client_id", CLIENT),
                ("client_secret", CLIENT_SECRET),
                ("token", ""),
            ],
            400,
            "invalid_request",
        ),
        (
            vec![
                ("client_id", CLIENT),
                ("client_secret", CLIENT_SECRET),
                ("token", &token),
                ("token", &token),
            ],
            400,
            "invalid_request",
        ),
    ] {
        let answer = post(deployment.token_service, "/revoke", &[], &form(&parameters)).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (status, code));
        assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401);
    }
    assert_eq!(deployment.call(&token).await.status, 200);
}

// PROTOCOL rule 1, RV-03
#[tokio::test]
async fn a_repeat_appends_again_and_keeps_the_twin_dead() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    assert_is_done(&deployment.revoke(&token).await);
    let (first, last) = (
        log(&deployment).await,
        deployment.store.begin(None).await.unwrap().mark,
    );
    assert_is_done(&deployment.revoke(&token).await);
    let again = deployment.store.begin(None).await.unwrap().mark;
    assert!(again > last, "never 200 without a write");
    assert_eq!(kinds(&first), [RecordType::Token, RecordType::Jti]);
    assert_eq!(
        log(&deployment).await,
        first,
        "the same records: the tombstone has the jti's name"
    );
}

// PROTOCOL rule 1, RV-02, RV-03
#[tokio::test]
async fn a_store_that_is_away_means_later_and_the_token_lives_on() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    deployment.store.set_down(true);
    assert_is_later(&deployment.revoke(&token).await);
    assert_is_later(&operator(&deployment, &[("token", &token)]).await);
    assert_is_later(&operator(&deployment, &[("jti", "canary-jti-0123")]).await);
    deployment.store.set_down(false);
    assert_eq!(deployment.call(&token).await.status, 200);
    assert!(log(&deployment).await.is_empty());
    assert_is_done(&deployment.revoke(&token).await);
    assert_is_refused_by_the_gateway(&deployment, &token).await;
}

// PROTOCOL rule 4, ST-05
#[tokio::test]
async fn records_and_tombstone_outlive_the_token_by_two_minutes() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    let end = deployment.clock.now().plus(Duration::from_secs(600 + 120));
    deployment.clock.advance(Duration::from_secs(100));
    assert_is_done(&deployment.revoke(&token).await);
    for record in log(&deployment).await {
        assert_eq!(record.keep_until, end);
    }
    let key = token.parse::<OpaqueToken>().unwrap().entry_key();
    let Stored::Revoked(tombstone) = deployment.store.get(key).await.unwrap() else {
        panic!("no tombstone");
    };
    assert_eq!(tombstone.expires_at, end);

    // Of a token that nobody knows the end is not known: the longest life there can be.
    assert_is_done(&deployment.revoke(&unknown_token()).await);
    let record = log(&deployment).await.pop().unwrap();
    assert_eq!(
        record.keep_until,
        deployment.clock.now().plus(Duration::from_secs(3600 + 120))
    );
}

// PROTOCOL rule 3
#[tokio::test]
async fn an_unknown_token_is_dead_before_it_is_published() {
    let deployment = Deployment::start().await;
    let jwt = sign(&deployment, "canary-jti-unknown");
    let (token, publish) = split(&deployment, &jwt);
    assert_is_done(&deployment.revoke(&token).await);
    assert_eq!(kinds(&log(&deployment).await), [RecordType::Token]);
    assert_eq!(publish.await, Published::Inserted, "there is no tombstone");
    assert_is_refused_by_the_gateway(&deployment, &token).await;
}

// PROTOCOL rule 3: such a record is kept for long, so nobody makes many.
#[tokio::test]
async fn unknown_tokens_are_revoked_once_a_second() {
    let deployment = with_two_clients().await;
    let live = deployment.token().await;
    for _ in 0..20 {
        assert_is_done(&deployment.revoke(&unknown_token()).await);
    }
    assert_is_later(&deployment.revoke(&unknown_token()).await);
    assert_is_done(&revoke_as_other(&deployment, &unknown_token()).await);
    assert_is_done(&operator(&deployment, &[("token", &unknown_token())]).await);
    assert_is_done(&deployment.revoke("not a token").await);
    assert_is_done(&deployment.revoke(&live).await);
    deployment.clock.advance(Duration::from_secs(1));
    assert_is_done(&deployment.revoke(&unknown_token()).await);
    assert_is_later(&deployment.revoke(&unknown_token()).await);
}

// PROTOCOL §5: a repeat grows the log.
#[tokio::test]
async fn a_client_revokes_ten_times_a_second() {
    let deployment = with_two_clients().await;
    let (token, next) = (deployment.token().await, deployment.token().await);
    for _ in 0..100 {
        assert_is_done(&deployment.revoke(&token).await);
    }
    assert_is_later(&deployment.revoke(&token).await);
    assert_is_later(&deployment.revoke(&next).await);
    assert_eq!(deployment.call(&next).await.status, 200);
    assert_is_done(&revoke_as_other(&deployment, &token).await);
    assert_is_done(&operator(&deployment, &[("token", &next)]).await);
    deployment.clock.advance(Duration::from_secs(1));
    assert_is_done(&deployment.revoke(&next).await);
}

// PROTOCOL §5, ST-10
#[tokio::test]
async fn when_clients_have_filled_the_room_operators_still_revoke() {
    let deployment = Deployment::start_with(|config| config.revocations.max_bytes = 2 * 80).await;
    let tokens = [
        deployment.token().await,
        deployment.token().await,
        deployment.token().await,
    ];
    assert_is_done(&deployment.revoke(&tokens[0]).await);
    assert_is_later(&deployment.revoke(&tokens[1]).await);
    assert_eq!(deployment.call(&tokens[1]).await.status, 200);
    assert_is_done(&operator(&deployment, &[("token", &tokens[1])]).await);
    assert_is_refused_by_the_gateway(&deployment, &tokens[1]).await;
    assert_is_later(&operator(&deployment, &[("token", &tokens[2])]).await);
    assert_is_refused_by_the_gateway(&deployment, &tokens[0]).await;
}

// --- What the holder of a whole JWT, and who writes to the store, make of it

// GW-05: (r, n - s) verifies wherever (r, s) does.
#[tokio::test]
async fn the_twin_of_a_revoked_token_is_refused() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    let twin_jwt = twin_of(&jwt_behind(&deployment, &token).await);
    let (twin, publish) = split(&deployment, &twin_jwt);
    assert_ne!(twin, token);
    assert_eq!(publish.await, Published::Inserted);
    assert_eq!(
        deployment.call(&twin).await.status,
        200,
        "it is as good as the other"
    );

    assert_is_done(&deployment.revoke(&token).await);
    assert_is_refused_by_the_gateway(&deployment, &token).await;
    assert_is_refused_by_the_gateway(&deployment, &twin).await;
}

// GW-05: the other way round.
#[tokio::test]
async fn who_revokes_the_twin_revokes_the_token() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    let (twin, publish) = split(&deployment, &twin_of(&jwt_behind(&deployment, &token).await));
    assert_eq!(publish.await, Published::Inserted);
    assert_is_done(&deployment.revoke(&twin).await);
    assert_is_refused_by_the_gateway(&deployment, &token).await;
}

// GW-05: a salted token says no more than its signature, so its JWT can be published under another salt.
#[tokio::test]
async fn another_salt_does_not_help() {
    let deployment = Deployment::start_with(|config| config.issuers[0].tokens = TokenKind::Salted).await;
    let token = deployment.token().await;
    let (other, publish) = split(&deployment, &jwt_behind(&deployment, &token).await);
    assert_eq!(publish.await, Published::Inserted);
    assert_eq!(deployment.call(&other).await.status, 200);
    assert_is_done(&deployment.revoke(&token).await);
    assert_is_refused_by_the_gateway(&deployment, &other).await;
}

// Finding 10, ST-03
#[tokio::test]
async fn a_late_publish_brings_nothing_back() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    let (same, publish) = split(&deployment, &jwt_behind(&deployment, &token).await);
    assert_eq!(same, token);
    assert_is_done(&deployment.revoke(&token).await);
    assert_eq!(publish.await, Published::Revoked);
    assert_is_refused_by_the_gateway(&deployment, &token).await;
}

// ST-09: what the store has of it cannot be read, and a gateway may still hold it.
#[tokio::test]
async fn a_token_whose_entry_is_damaged_can_be_revoked() {
    let deployment = Deployment::start().await;
    let jwt = sign(&deployment, "canary-jti-damaged");
    let (token, _) = split(&deployment, &jwt);
    let key = token.parse::<OpaqueToken>().unwrap().entry_key();
    let (_, foreign) = symbolon::store::conformance::entry(1);
    let until = deployment.clock.now().plus(Duration::from_secs(60));
    deployment.store.publish(key, &foreign, until).await.unwrap();
    assert_eq!(deployment.call(&token).await.status, 401);
    assert_is_done(&deployment.revoke(&token).await);
    assert_eq!(kinds(&log(&deployment).await), [RecordType::Token]);
}

// --- By operators

// RV-03, threats: operators act without being the client.
#[tokio::test]
async fn an_operator_revokes_by_token_and_by_jti() {
    let deployment = Deployment::start().await;
    let issuer = format!("http://{}", deployment.token_service);
    let by_token = deployment.token().await;
    assert_is_done(&operator(&deployment, &[("token", &by_token)]).await);
    assert_is_refused_by_the_gateway(&deployment, &by_token).await;
    assert_is_done(&operator(&deployment, &[("token", &by_token)]).await);

    for issuer in [vec![], vec![("issuer", issuer.as_str())]] {
        let token = deployment.token().await;
        let jti = jti_of(&jwt_behind(&deployment, &token).await);
        let parameters = [vec![("jti", jti.as_str())], issuer].concat();
        assert_is_done(&operator(&deployment, &parameters).await);
        assert_is_refused_by_the_gateway(&deployment, &token).await;
    }
}

// RV-06, PROTOCOL §2
#[tokio::test]
async fn an_operator_ends_all_tokens_of_a_subject_a_client_an_issuer_up_to_now() {
    let deployment = with_two_clients().await;
    let before = deployment.token().await;
    let other = other_token(&deployment).await;
    for token in [&before, &other] {
        assert_eq!(deployment.call(token).await.status, 200, "it is in the cache");
    }
    // The subject of a client's own token is the client.
    for by in ["sub", "client_id"] {
        let before = deployment.token().await;
        assert_is_done(&operator(&deployment, &[(by, CLIENT)]).await);
        assert_is_refused_by_the_gateway(&deployment, &before).await;
        assert_eq!(deployment.call(&other).await.status, 200, "another's lives on");
        let after = deployment.token().await;
        assert_eq!(deployment.call(&after).await.status, 200, "in the same second");
    }
    assert_is_refused_by_the_gateway(&deployment, &before).await;

    let after = deployment.token().await;
    assert_is_done(&operator(&deployment, &[("all", "true")]).await);
    for token in [&other, &after] {
        assert_is_refused_by_the_gateway(&deployment, token).await;
    }
    assert_eq!(deployment.call(&deployment.token().await).await.status, 200);
    let types = [RecordType::Subject, RecordType::Client, RecordType::Issuer];
    assert_eq!(kinds(&log(&deployment).await), types);
}

// RV-06, PROTOCOL §2: for good.
#[tokio::test]
async fn an_operator_ends_a_session_and_a_grant() {
    let deployment = Deployment::start().await;
    let publish_one = async |lineage: Lineage| {
        let mut claims = claims(&deployment, &base64url::encode(&random::<16>()));
        claims["sid"] = "canary-session".into();
        let (token, publish) = split_with(&deployment, &sign_claims(&deployment, &claims), lineage);
        assert_eq!(publish.await, Published::Inserted);
        token
    };
    let grant = GrantId::random_grant();
    let in_grant = Lineage {
        grant,
        ..Lineage::default()
    };
    let past = publish_one(in_grant).await;
    assert_eq!(deployment.call(&past).await.status, 200);
    let named = base64url::encode(grant.as_bytes());
    assert_is_done(&operator(&deployment, &[("grant", &named)]).await);
    for token in [past, publish_one(in_grant).await] {
        assert_is_refused_by_the_gateway(&deployment, &token).await;
    }

    let past = publish_one(Lineage::default()).await;
    assert_eq!(deployment.call(&past).await.status, 200);
    assert_is_done(&operator(&deployment, &[("sid", "canary-session")]).await);
    for token in [past, publish_one(Lineage::default()).await] {
        assert_is_refused_by_the_gateway(&deployment, &token).await;
    }
    assert_eq!(
        kinds(&log(&deployment).await),
        [RecordType::Grant, RecordType::Session]
    );
}

#[tokio::test]
async fn a_jti_is_dead_before_anybody_has_seen_it() {
    let deployment = Deployment::start().await;
    let jti = "canary-jti-never-seen";
    assert_is_done(&operator(&deployment, &[("jti", jti)]).await);
    let (token, publish) = split(&deployment, &sign(&deployment, jti));
    assert_eq!(publish.await, Published::Inserted);
    assert_is_refused_by_the_gateway(&deployment, &token).await;
    let (other, publish) = split(&deployment, &sign(&deployment, "canary-jti-another"));
    assert_eq!(publish.await, Published::Inserted);
    assert_eq!(deployment.call(&other).await.status, 200);
}

// OP-04
#[tokio::test]
async fn nobody_but_an_operator_is_heard() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    let body = form(&[("token", &token)]);
    let right = format!("Bearer {OPERATOR}");
    let basic = format!("Basic {OPERATOR}");
    let longer = format!("{right}x");
    for fields in [
        vec![],
        vec!["Bearer"],
        vec!["Bearer "],
        vec!["Bearer canary-wrong-operator"],
        vec![&right[..right.len() - 1]],
        vec![&longer],
        vec![&basic],
        vec![OPERATOR],
        vec![&right, &right],
        vec!["", &right],
    ] {
        let fields: Vec<_> = fields.into_iter().map(|field| ("authorization", field)).collect();
        let answer = post(deployment.admin, "/revoke", &fields, &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().as_str()),
            (401, "invalid_token")
        );
        assert_eq!(answer.field("www-authenticate"), "Bearer realm=\"admin\"");
    }
    // Not in the body, and not in the query.
    let in_body = form(&[("token", &token), ("access_token", OPERATOR)]);
    let target = format!("/revoke?access_token={OPERATOR}");
    for (path, body) in [("/revoke", &in_body), (target.as_str(), &body)] {
        assert_eq!(post(deployment.admin, path, &[], body).await.status, 401);
    }
    assert_eq!(deployment.call(&token).await.status, 200);
    let answer = post(
        deployment.admin,
        "/revoke",
        &[("authorization", &right.replace("Bearer", "bEaReR"))],
        &body,
    )
    .await;
    assert_is_done(&answer);
}

#[tokio::test]
async fn without_an_operators_token_nobody_is_an_operator() {
    for operators in [None, Some(String::new())] {
        let deployment = Deployment::start_with(|config| {
            config.admin.as_mut().unwrap().token = operators.clone().map(|token| admin::Token(token.into()));
        })
        .await;
        let token = deployment.token().await;
        for fields in [
            vec![],
            vec![("authorization", "Bearer ")],
            vec![("authorization", "Bearer x")],
        ] {
            let answer = post(deployment.admin, "/revoke", &fields, &form(&[("token", &token)])).await;
            assert_eq!(answer.status, 401);
        }
        assert_eq!(deployment.call(&token).await.status, 200);
    }
}

#[tokio::test]
async fn an_operator_says_one_thing_and_says_it_once() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    let long = "x".repeat(64 * 1024);
    for parameters in [
        vec![],
        vec![("token", "")],
        vec![("token", "not a token")],
        vec![("token", &token[1..])],
        vec![("token", &token), ("jti", "canary-jti-0123")],
        vec![("sub", CLIENT), ("client_id", CLIENT)],
        vec![("all", "false")],
        vec![("all", "true"), ("sub", CLIENT)],
        vec![("grant", "canary-no-grant")],
        vec![("grant", "AAAAAAAAAAAAAAAAAAAAAA")],
        vec![("token", &token), ("token", &token)],
        vec![
            ("jti", "canary-jti-0123"),
            ("issuer", "https://canary-nowhere.example"),
        ],
        vec![("issuer", "https://canary-nowhere.example")],
        vec![("jti", "canary-jti-0123"), ("jti", "canary-jti-4567")],
        vec![("jti", &long)],
    ] {
        let answer = operator(&deployment, &parameters).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().as_str()),
            (400, "invalid_request")
        );
    }
    let as_json = Request::post("/revoke")
        .header("host", "localhost")
        .header("authorization", format!("Bearer {OPERATOR}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(json!({ "token": token }).to_string())))
        .unwrap();
    assert_eq!(request(deployment.admin, as_json).await.status, 400);
    let read = get(
        deployment.admin,
        "/revoke",
        &[("authorization", &format!("Bearer {OPERATOR}"))],
    )
    .await;
    assert_eq!((read.status.as_u16(), read.field("allow")), (405, "POST"));
    assert_eq!(deployment.call(&token).await.status, 200);
    assert!(log(&deployment).await.is_empty());
}

#[tokio::test]
async fn of_several_issuers_one_is_named() {
    let deployment = Deployment::start_with(|config| {
        let mut other = config.issuers[0].clone();
        other.issuer = "https://other.example".into();
        config.issuers.push(other);
    })
    .await;
    let jti = ("jti", "canary-jti-0123");
    let unnamed = operator(&deployment, &[jti]).await;
    assert_eq!(unnamed.json()["error_description"], "say which issuer");
    assert_is_done(&operator(&deployment, &[jti, ("issuer", "https://other.example")]).await);
    let (token, publish) = split(&deployment, &sign(&deployment, jti.1));
    publish.await;
    assert_eq!(
        deployment.call(&token).await.status,
        200,
        "a jti is its issuer's own"
    );
}

#[tokio::test]
async fn health_says_that_it_runs_and_ready_that_it_can_decide() {
    let deployment = Deployment::start_with_store_down().await;
    let status = async |path| get(deployment.admin, path, &[]).await.status.as_u16();
    assert_eq!((status("/health").await, status("/ready").await), (200, 503));
    deployment.store.set_down(false);
    for _ in 0..1_000 {
        if status("/ready").await == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((status("/health").await, status("/ready").await), (200, 200));
    assert_eq!(status("/metrics-of-nothing").await, 404);
}

// --- What is counted

#[tokio::test]
async fn what_happens_is_counted_under_names_of_ours() {
    let deployment = Deployment::start().await;
    let (token, revoked) = (deployment.token().await, deployment.token().await);
    for token in [&token, &token, &revoked] {
        assert_eq!(deployment.call(token).await.status, 200);
    }
    assert_is_done(&deployment.revoke(&revoked).await);
    for token in [&revoked, &unknown_token(), "canary-no-token"] {
        assert_eq!(deployment.call(token).await.status, 401);
    }
    assert_eq!(get(deployment.gateway, "/orders/1", &[]).await.status, 401);
    deployment.store.set_down(true);
    assert_eq!(deployment.call(&unknown_token()).await.status, 503);

    let answer = get(deployment.admin, "/metrics", &[]).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .field("content-type")
            .starts_with("application/openmetrics-text; version=1.0.0")
    );
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    for line in [
        "symbolon_decisions_total{reason=\"forwarded\"} 3",
        "symbolon_decisions_total{reason=\"revoked\"} 1",
        "symbolon_decisions_total{reason=\"unknown\"} 1",
        "symbolon_decisions_total{reason=\"grammar\"} 1",
        "symbolon_decisions_total{reason=\"no_token\"} 1",
        "symbolon_decisions_total{reason=\"store_unavailable\"} 1",
        "symbolon_look_ups_total{found=\"hit\",kind=\"split\"} 2",
        "symbolon_look_ups_total{found=\"filled\",kind=\"split\"} 4",
        "symbolon_store_seconds_count{operation=\"publish\"} 2",
        "symbolon_store_failures_total{operation=\"get\"} 1",
        "symbolon_issued_total 2",
        "symbolon_revocations_total 1",
        "symbolon_cache_tokens 1",
        "symbolon_records 2",
        "symbolon_ready 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

// --- What the tests above are written in

async fn with_two_clients() -> Deployment {
    canary(OTHER_CLIENT);
    canary(OTHER_SECRET);
    Deployment::start_with(|config| {
        let service = minting(config);
        service.clients.push(Client {
            id: OTHER_CLIENT.into(),
            secret_sha256: sha256(OTHER_SECRET.as_bytes()),
            ..service.clients[0].clone()
        });
    })
    .await
}

async fn revoke(deployment: &Deployment, parameters: &[(&str, &str)]) -> Answer {
    let credentials = [("client_id", CLIENT), ("client_secret", CLIENT_SECRET)];
    let body = form(&[&credentials, parameters].concat());
    post(deployment.token_service, "/revoke", &[], &body).await
}

async fn revoke_as_other(deployment: &Deployment, token: &str) -> Answer {
    let parameters = [
        ("client_id", OTHER_CLIENT),
        ("client_secret", OTHER_SECRET),
        ("token", token),
    ];
    post(deployment.token_service, "/revoke", &[], &form(&parameters)).await
}

/// A token of the other client.
async fn other_token(deployment: &Deployment) -> String {
    let parameters = [
        ("grant_type", "client_credentials"),
        ("client_id", OTHER_CLIENT),
        ("client_secret", OTHER_SECRET),
    ];
    let answer = post(
        deployment.token_service,
        &deployment.paths.token,
        &[],
        &form(&parameters),
    )
    .await;
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    canary(&token);
    token
}

pub async fn operator(deployment: &Deployment, parameters: &[(&str, &str)]) -> Answer {
    let authorization = format!("Bearer {OPERATOR}");
    post(
        deployment.admin,
        "/revoke",
        &[("authorization", &authorization)],
        &form(parameters),
    )
    .await
}

fn assert_is_done(answer: &Answer) {
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("cache-control"), "no-store");
}

fn assert_is_later(answer: &Answer) {
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (503, "temporarily_unavailable")
    );
    assert_eq!(answer.field("retry-after"), "1");
}

async fn assert_is_refused_by_the_gateway(deployment: &Deployment, token: &str) {
    let before = deployment.api.received().len();
    let answer = deployment.call(token).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (401, "invalid_token")
    );
    assert_eq!(
        deployment.api.received().len(),
        before,
        "the API hears nothing of it"
    );
}

/// All records that were appended, in order.
pub async fn log(deployment: &Deployment) -> Vec<Record> {
    let round = deployment
        .store
        .follow(Mark::default(), Duration::ZERO)
        .await
        .unwrap();
    round.records.into_iter().map(|(_, record)| record).collect()
}

fn kinds(records: &[Record]) -> Vec<RecordType> {
    records.iter().map(|record| record.kind).collect()
}

/// A token that follows the grammar, and that nobody issued.
pub fn unknown_token() -> String {
    let token = base64url::encode(&random::<64>());
    canary(&token);
    token
}

/// The JWT that the API gets for a token.
pub async fn jwt_behind(deployment: &Deployment, token: &str) -> String {
    assert_eq!(deployment.call(token).await.status, 200);
    let received = deployment.api.received().pop().unwrap();
    let authorization = received.headers["authorization"].to_str().unwrap();
    let jwt = authorization.strip_prefix("Bearer ").unwrap().to_owned();
    canary(&jwt);
    jwt
}

pub fn jti_of(jwt: &str) -> String {
    let payload = base64url::decode(jwt.split('.').nth(1).unwrap()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    let jti = claims["jti"].as_str().unwrap().to_owned();
    canary(&jti);
    jti
}

/// A JWT of the deployment's issuer with that `jti`, which nobody has published.
fn sign(deployment: &Deployment, jti: &str) -> String {
    sign_claims(deployment, &claims(deployment, jti))
}

pub fn claims(deployment: &Deployment, jti: &str) -> serde_json::Value {
    canary(jti);
    let now = deployment.clock.now().as_secs();
    let issuer = format!("http://{}", deployment.token_service);
    json!({
        "iss": issuer, "aud": deployment.api.url(), "sub": CLIENT, "client_id": CLIENT, "scope": SCOPE,
        "iat": now, "exp": now + 600, "jti": jti,
    })
}

pub fn sign_claims(deployment: &Deployment, claims: &serde_json::Value) -> String {
    let key = mint::key_in(deployment.data(), Algorithm::Es256).unwrap();
    let jwt = key.sign("at+jwt", claims).unwrap();
    canary(jwt.expose());
    jwt.expose().to_owned()
}

/// The token of a JWT; and its entry's way into the store, past the token service, as one who holds the deployment
/// secret could send it.
pub fn split<'a>(deployment: &'a Deployment, jwt: &str) -> (String, impl Future<Output = Published> + 'a) {
    let lineage = Lineage {
        mark: Mark::EMPTY_LOG,
        ..Lineage::default()
    };
    split_with(deployment, jwt, lineage)
}

fn split_with<'a>(
    deployment: &'a Deployment,
    jwt: &str,
    lineage: Lineage,
) -> (String, impl Future<Output = Published> + 'a) {
    let jwt = UnverifiedJwt::parse(Zeroizing::new(jwt.to_owned())).unwrap();
    let kind = deployment.process.issuers.configs().next().unwrap().tokens;
    let (token, half) = jwt.split(kind, lineage).unwrap();
    canary(token.expose());
    let entry = half.seal(&token, &deployment.process.secrets);
    let (key, text) = (token.entry_key(), token.expose().to_owned());
    let publish = async move {
        let until = deployment.clock.now().plus(Duration::from_secs(600));
        deployment.store.publish(key, &entry, until).await.unwrap()
    };
    (text, publish)
}

/// The same JWT with the other signature that verifies: (r, n - s).
pub fn twin_of(jwt: &str) -> String {
    /// The order of P-256.
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (signing_input, signature) = jwt.rsplit_once('.').unwrap();
    let mut signature = base64url::decode(signature).unwrap();
    let mut borrow = false;
    for (digit, order) in signature[32..].iter_mut().zip(N).rev() {
        let (without, first) = order.overflowing_sub(*digit);
        let (difference, second) = without.overflowing_sub(u8::from(borrow));
        (*digit, borrow) = (difference, first || second);
    }
    format!("{signing_input}.{}", base64url::encode(&signature))
}
