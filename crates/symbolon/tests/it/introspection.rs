//! What callers of the introspection endpoint are told (RFC 7662), and what they are not. A token service that mints
//! stands for both kinds: before another server it is the same code, and what is different there is in
//! `broker/introspection.rs`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::Request;
use serde_json::{Value, json};
use symbolon::clock::Clock as _;
use symbolon::introspect::{self, Budget};
use symbolon::store::{EntryStore as _, Published};
use symbolon_core::{Names, OpaqueToken, Secret, Secrets, Stored, TokenKind, base64url};

use crate::revocation::{
    claims, jti_of, jwt_behind, log, operator, sign_claims, split, twin_of, unknown_token,
};
use crate::support::{
    Answer, CALLER, CALLER_SECRET, CLIENT, CLIENT_SECRET, Deployment, EDGE, EDGE_SECRET, SCOPE, caller,
    canary, eventually, form, get, minting, post, request, within,
};

const API: (&str, &str) = (CALLER, CALLER_SECRET);
const GATEWAY: (&str, &str) = (EDGE, EDGE_SECRET);
const WANTS_JWT: (&str, &str) = ("accept", "application/jwt");
const OTHER: &str = "https://canary-other-api.example";
const OTHER_SECRET: &str = "canary-other-caller-secret-99";

// --- What they are told

// IN-03, IN-04, IN-08, RFC 7662 §2.2
#[tokio::test]
async fn a_caller_hears_every_claim_of_a_token_that_is_for_it() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    let jwt = jwt_behind(&deployment, &token).await;
    let answer = deployment.introspect(API, &token).await;
    let mut expected = payload(&jwt);
    expected["active"] = true.into();
    expected["token_type"] = "Bearer".into();
    assert_eq!((answer.status.as_u16(), answer.json()), (200, expected));
    assert_is_private(&answer, "application/json");
    assert!(answer.field("symbolon-view-age").parse::<u64>().unwrap() <= 2000);
}

// IN-04, RFC 9449 §6.2, RFC 8705 §3.2, RFC 9396 §9.2, RFC 9470 §6.2
#[tokio::test]
async fn claims_stand_as_they_stand_in_the_jwt() {
    let deployment = Deployment::start().await;
    let further = json!({
        "cnf": { "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }, "acr": "urn:acr:1", "auth_time": 1_800_000_000_u64,
        "authorization_details": [{ "type": "payment", "amount": 1.50, "é": null }], "x": 18_446_744_073_709_551_615_u64,
    });
    let told = tell(&deployment, &further).await;
    for (name, value) in further.as_object().unwrap() {
        assert_eq!(&told[name], value, "{name}");
    }
    assert_eq!(told["token_type"], "DPoP");
    let certificate = json!({ "cnf": { "x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2" } });
    let told = tell(&deployment, &certificate).await;
    assert_eq!(
        (&told["cnf"], told["token_type"].as_str()),
        (&certificate["cnf"], Some("Bearer"))
    );
}

// RFC 7662 §2.2: these members are the endpoint's own words.
#[tokio::test]
async fn a_claim_does_not_pass_for_what_the_endpoint_says() {
    let deployment = Deployment::start().await;
    let told = tell(&deployment, &json!({ "active": false, "token_type": "N_A" })).await;
    assert_eq!(
        (&told["active"], told["token_type"].as_str()),
        (&json!(true), Some("Bearer"))
    );
}

// IN-04: as the gateway reads them.
#[tokio::test]
async fn client_and_scope_are_those_that_the_profile_believes() {
    let deployment = Deployment::start_with(|config| {
        let profile = &mut config.issuers[0].profile;
        profile.client_claims = Names::Written(vec!["azp".into(), "client_id".into()]);
        profile.scope_claims = Names::Written(vec!["scp".into()]);
    })
    .await;
    let told = tell(
        &deployment,
        &json!({ "azp": "asked", "client_id": "mapped", "scp": ["b", "a"], "scope": "admin" }),
    )
    .await;
    assert_eq!(
        (&told["client_id"], &told["azp"]),
        (&json!("asked"), &json!("asked"))
    );
    assert_eq!(
        (&told["scope"], &told["scp"]),
        (&json!("a b"), &json!(["b", "a"]))
    );
    let told = tell(&deployment, &json!({ "scope": "admin" })).await;
    assert_eq!(told.get("scope"), None, "nobody believes it");
}

// IN-02, RFC 7662 §2.2
#[tokio::test]
async fn whatever_a_token_is_not_the_answer_is_the_same() {
    let deployment = Deployment::start_with(|config| {
        minting(config).clients[0].audiences.push(OTHER.into());
        let callers = &mut config.token_service.as_mut().unwrap().callers;
        callers.push(caller("other", OTHER_SECRET, OTHER, true));
    })
    .await;
    let token = deployment.token().await;
    let jwt = jwt_behind(&deployment, &token).await;
    let other = deployment.ask(&[("resource", OTHER)]).await.json()["access_token"].clone();
    let other = other.as_str().unwrap();
    canary(other);
    canary(OTHER_SECRET);
    let (revoked, expired) = (deployment.token().await, deployment.token().await);
    assert_eq!(deployment.revoke(&revoked).await.status, 200);

    let inactive = inactive(&deployment.introspect(API, &unknown_token()).await);
    for (whose, token, why) in [
        (API, revoked.as_str(), "revoked"),
        (API, other, "for another caller"),
        (("other", OTHER_SECRET), &token, "for another caller"),
        // Not ours to decode (GW-07): who holds the whole JWT holds no token of ours.
        (API, &jwt, "a whole JWT"),
        (GATEWAY, &jwt, "a whole JWT"),
        (API, "x", "no token at all"),
        (API, "a\0b", "no text that is one"),
        (API, &"A".repeat(60_000), "too long"),
        (API, &format!("{token}="), "another spelling"),
        (
            API,
            &format!("{token}.AAAAAAAAAAAAAAAAAAAAAA"),
            "another spelling",
        ),
    ] {
        for accept in ["application/json", "application/jwt"] {
            let answer = deployment
                .introspect_as(whose, token, &[("accept", accept)])
                .await;
            assert_eq!(self::inactive(&answer), inactive, "{why}");
        }
    }
    assert_eq!(deployment.introspect(API, &token).await.json()["active"], true);
    assert_eq!(
        deployment.introspect(("other", OTHER_SECRET), other).await.json()["aud"],
        OTHER
    );
    deployment.clock.advance(Duration::from_secs(600));
    assert_eq!(
        self::inactive(&deployment.introspect(API, &expired).await),
        inactive,
        "expired"
    );
}

// IN-03, ST-09: signature, issuer, times, and whose entry it is.
#[tokio::test]
async fn what_does_not_verify_is_no_token() {
    let deployment = Deployment::start().await;
    let now = deployment.clock.now().as_secs();
    for (name, value) in [
        ("nbf", json!(now + 120)),
        ("iat", json!(now + 120)),
        ("exp", json!(now + 4000)),
        ("iss", json!("https://canary-other-issuer.example")),
        ("sub", json!(7)),
    ] {
        let mut claims = claims(&deployment, &base64url::encode(&symbolon_core::random::<16>()));
        claims[name] = value;
        let (token, publish) = split(&deployment, &sign_claims(&deployment, &claims));
        assert_eq!(publish.await, Published::Inserted);
        for (whose, accept) in [(API, "*/*"), (GATEWAY, "application/jwt")] {
            inactive(
                &deployment
                    .introspect_as(whose, &token, &[("accept", accept)])
                    .await,
            );
        }
    }
    let (token, unknown) = (deployment.token().await, unknown_token());
    let key = |token: &str| token.parse::<OpaqueToken>().unwrap().entry_key();
    let Stored::Live(entry) = deployment.store.get(key(&token)).await.unwrap() else {
        panic!("it is there")
    };
    let until = deployment.clock.now().plus(Duration::from_secs(600));
    let swapped = deployment
        .store
        .publish(key(&unknown), &entry, until)
        .await
        .unwrap();
    assert_eq!(swapped, Published::Inserted);
    inactive(&deployment.introspect(API, &unknown).await);
    assert_eq!(deployment.introspect(API, &token).await.json()["active"], true);
}

// IN-05
#[tokio::test]
async fn what_the_caller_takes_it_for_makes_no_difference() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    for hint in ["access_token", "refresh_token", "nonsense"] {
        let parameters = [
            ("client_id", CALLER),
            ("client_secret", CALLER_SECRET),
            ("token", &token),
            ("token_type_hint", hint),
        ];
        let answer = post(deployment.token_service, "/introspect", &[], &form(&parameters)).await;
        assert_eq!(answer.json()["active"], true, "{hint}");
    }
}

// IN-03, GW-05, RV-06: nobody hears of a token that was revoked by whatever name, nor of its twin.
#[tokio::test]
async fn a_revocation_by_any_name_is_heard_at_once() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    let jwt = jwt_behind(&deployment, &token).await;
    let (twin, publish) = split(&deployment, &twin_of(&jwt));
    assert_eq!(publish.await, Published::Inserted);
    for token in [&token, &twin] {
        assert_eq!(deployment.introspect(API, token).await.json()["active"], true);
    }
    assert_eq!(operator(&deployment, &[("jti", &jti_of(&jwt))]).await.status, 200);
    for token in [&token, &twin] {
        inactive(&deployment.introspect(API, token).await);
        inactive(&deployment.introspect_as(GATEWAY, token, &[WANTS_JWT]).await);
    }
    for by in [("sub", CLIENT), ("client_id", CLIENT), ("all", "true")] {
        let token = deployment.token().await;
        assert_eq!(deployment.introspect(API, &token).await.json()["active"], true);
        assert_eq!(operator(&deployment, &[by]).await.status, 200);
        inactive(&deployment.introspect(API, &token).await);
        let next = deployment.token().await;
        assert_eq!(
            deployment.introspect(API, &next).await.json()["active"],
            true,
            "begun after"
        );
    }
}

// --- The JWT itself

// IN-07, finding 11
#[tokio::test]
async fn the_jwt_is_for_callers_that_may_have_it_and_ask_for_it() {
    let deployment = Deployment::start_with(|config| config.issuers[0].tokens = TokenKind::Salted).await;
    let token = deployment.token().await;
    let jwt = jwt_behind(&deployment, &token).await;
    let ask = async |whose, accept| {
        let answer = deployment
            .introspect_as(whose, &token, &[("accept", accept)])
            .await;
        assert_eq!(answer.status, 200);
        answer
    };
    for accept in [
        "application/jwt",
        "APPLICATION/JWT;q=0.1",
        "application/json;q=0.5, application/jwt",
    ] {
        let answer = ask(GATEWAY, accept).await;
        assert_is_private(&answer, "application/jwt");
        assert_eq!(answer.body, jwt);
        let claims = ask(API, accept).await;
        assert_is_private(&claims, "application/json");
        assert!(!text(&claims).contains(jwt.rsplit('.').next().unwrap()));
        assert_eq!(claims.json()["active"], true);
    }
    for accept in ["*/*", "application/*", "application/json", "application/jwt;q=0"] {
        assert_eq!(ask(GATEWAY, accept).await.json()["active"], true, "{accept}");
    }
}

// PROTOCOL "Introspection in the store's place"
#[tokio::test]
async fn a_gateway_authenticates_with_what_any_deployment_secret_yields() {
    let (new, old): (Secret, Secret) = (
        Secret::generate(2.try_into().unwrap()),
        Secret::generate(1.try_into().unwrap()),
    );
    for secret in [&new, &old] {
        canary(&secret.fallback());
    }
    let secrets = Secrets::new(vec![new.clone(), old.clone()]).unwrap();
    let deployment = Deployment::start_with(|config| {
        config.secrets = Some(secrets);
        // Its callers are not what makes it one.
        config.token_service.as_mut().unwrap().callers.clear();
    })
    .await;
    let token = deployment.token().await;
    let jwt = jwt_behind(&deployment, &token).await;
    for secret in [&new, &old] {
        let secret = secret.fallback();
        let answer = deployment
            .introspect_as(("gateway", &secret), &token, &[WANTS_JWT])
            .await;
        assert_eq!((answer.status.as_u16(), text(&answer)), (200, jwt.as_str()));
    }
    let other = Secret::generate(2.try_into().unwrap()).fallback();
    assert_is_not_known(&deployment.introspect(("gateway", &other), &token).await);
    assert_is_not_known(&deployment.introspect(API, &token).await);
}

// --- Who asks, and how

// IN-01, RFC 7662 §2.1
#[tokio::test]
async fn who_asks_has_to_be_known() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    let asked = form(&[("token", &token)]);
    let encoded = |text: &str| form(&[("x", text)])[2..].to_owned();
    let basic = |id: &str, secret: &str| {
        let joined = format!("{}:{}", encoded(id), encoded(secret));
        format!("Basic {}", STANDARD.encode(joined))
    };
    let ask = async |authorization: &[&str]| {
        let fields: Vec<_> = authorization
            .iter()
            .map(|field| ("authorization", *field))
            .collect();
        post(deployment.token_service, "/introspect", &fields, &asked).await
    };
    let right = basic(CALLER, CALLER_SECRET);
    assert_eq!(ask(&[&right]).await.json()["active"], true);
    assert_is_not_known(&ask(&[]).await);
    for wrong in [
        &basic(CALLER, EDGE_SECRET),
        &basic("nobody", CALLER_SECRET),
        &basic("gateway", CALLER_SECRET),
        // A client of the token service is no caller.
        &basic(CLIENT, CLIENT_SECRET),
        &format!("Bearer {token}"),
    ] {
        assert_is_not_known(&ask(&[wrong]).await);
    }
    // A caller is no client.
    let credentials = [("client_id", CALLER), ("client_secret", CALLER_SECRET)];
    let issue = form(&[&credentials[..], &[("grant_type", "client_credentials")]].concat());
    assert_is_not_known(&post(deployment.token_service, "/token", &[], &issue).await);
    let revoke = form(&[&credentials[..], &[("token", &token)]].concat());
    assert_is_not_known(&post(deployment.token_service, "/revoke", &[], &revoke).await);

    assert_is_malformed(&ask(&[&right, &right]).await);
    let in_both = format!("{asked}&{}", form(&credentials));
    let header = [("authorization", right.as_str())];
    let answer = post(deployment.token_service, "/introspect", &header, &in_both).await;
    assert_is_malformed(&answer);
}

// TS-08, as at the token endpoint
#[tokio::test]
async fn who_is_wrong_too_often_is_told_so_and_locks_nobody_out() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    for _ in 0..20 {
        assert_is_not_known(&deployment.introspect((CALLER, "wrong"), &token).await);
    }
    let again = deployment.introspect((CALLER, "wrong"), &token).await;
    assert_eq!((again.status.as_u16(), again.field("retry-after")), (429, "1"));
    assert_eq!(deployment.introspect(API, &token).await.json()["active"], true);
}

// IN-01, RFC 7662 §2.1, RFC 6749 §3.2
#[tokio::test]
async fn a_request_is_a_form_in_a_post_and_read_in_one_way() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    let credentials = form(&[("client_id", CALLER), ("client_secret", CALLER_SECRET)]);
    let in_query = format!("/introspect?{}", form(&[("token", &token)]));
    let got = get(
        deployment.token_service,
        &format!("{in_query}&{credentials}"),
        &[],
    )
    .await;
    assert_eq!((got.status.as_u16(), got.field("allow")), (405, "POST"));

    let ask = async |body: &str| post(deployment.token_service, "/introspect", &[], body).await;
    assert_is_malformed(&post(deployment.token_service, &in_query, &[], &credentials).await);
    assert_is_malformed(&ask(&credentials).await);
    assert_is_malformed(&ask(&format!("{credentials}&token=")).await);
    assert_is_malformed(&ask(&format!("{credentials}&token={token}&token={token}")).await);
    assert_is_malformed(&ask(&format!("{credentials}&token={token}&client_id={CALLER}")).await);
    assert_is_malformed(&ask(&format!("{credentials}&token=%00%zz")).await);
    assert_is_malformed(&ask(&format!("{credentials}&token={}", "A".repeat(100 * 1024))).await);
    let as_json = json!({ "client_id": CALLER, "client_secret": CALLER_SECRET, "token": token }).to_string();
    let as_json = Request::post("/introspect")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::from(as_json));
    assert_is_malformed(&request(deployment.token_service, as_json.unwrap()).await);
    assert_eq!(
        ask(&format!("{credentials}&token={token}&unknown=1"))
            .await
            .json()["active"],
        true
    );
}

// --- Outages

// IN-00, GW-12
#[tokio::test]
async fn an_outage_is_no_word_on_a_token() {
    let deployment = Deployment::start_with(|config| {
        // Though a gateway would serve what it knows for longer.
        config.revocations.tolerate = Duration::from_secs(30);
    })
    .await;
    let token = deployment.token().await;
    let unknown = unknown_token();
    assert_eq!(deployment.introspect(API, &token).await.json()["active"], true);
    deployment.store.set_down(true);
    assert_is_later(&deployment.introspect(API, &unknown).await);
    deployment.clock.advance(Duration::from_secs(3));
    assert_eq!(deployment.call(&token).await.status, 200, "it is tolerated");
    for token in [&token, &unknown] {
        assert_is_later(&deployment.introspect(API, token).await);
        assert_is_later(&deployment.introspect_as(GATEWAY, token, &[WANTS_JWT]).await);
    }
    deployment.store.set_down(false);
    assert_eq!(deployment.introspect(API, &token).await.json()["active"], true);
    inactive(&deployment.introspect(API, &unknown).await);
}

// PROTOCOL rules 7 and 12: what a failover loses of the log is not forgotten here.
#[tokio::test]
async fn a_revocation_that_a_failover_loses_is_heard_of_all_the_same() {
    let deployment = Deployment::start().await;
    let (token, revoked) = (deployment.token().await, deployment.token().await);
    let jti = deployment.introspect(API, &revoked).await.json()["jti"].clone();
    let jti = jti.as_str().unwrap();
    canary(jti);
    assert_eq!(operator(&deployment, &[("jti", jti)]).await.status, 200);
    deployment.store.lose_log().await;
    assert_eq!(log(&deployment).await, []);
    within(async {
        while log(&deployment).await.is_empty() {
            inactive(&deployment.introspect(API, &revoked).await);
        }
    })
    .await;
    inactive(&deployment.introspect(API, &revoked).await);
    assert_eq!(deployment.introspect(API, &token).await.json()["active"], true);
}

// IN-00
#[tokio::test]
async fn before_the_log_was_read_nothing_is_said() {
    let deployment = Deployment::start_with_store_down().await;
    assert_is_later(&deployment.introspect(API, &unknown_token()).await);
}

// PROTOCOL "Introspection in the store's place": the age is never less than it is.
#[tokio::test]
async fn the_answer_says_how_old_the_view_of_the_log_is() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    assert_eq!(deployment.introspect(API, &token).await.status, 200);
    // The clock stands still: the view is as old as the test makes it.
    deployment.store.set_down(true);
    deployment.clock.advance(Duration::from_millis(1500));
    let answer = deployment.introspect(API, &token).await;
    assert_eq!(answer.json()["active"], true, "it was seen before");
    assert_eq!(answer.field("symbolon-view-age"), "1500");
}

// The same: what takes long makes it older, and what is learnt of the log meanwhile makes it no younger.
#[tokio::test]
async fn the_age_is_that_of_the_view_that_was_decided_on() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    deployment.store.hold_looks(true);
    let asked = deployment.introspect(API, &token);
    let meanwhile = async {
        deployment.store.look_waits().await;
        deployment.clock.advance(Duration::from_millis(900));
        let revocations = &deployment.process.revocations;
        let is_younger = || {
            revocations
                .view_age()
                .is_some_and(|age| age < Duration::from_millis(900))
        };
        eventually(is_younger, "the log was read again").await;
        deployment.store.hold_looks(false);
    };
    let (answer, ()) = tokio::join!(asked, meanwhile);
    assert_eq!(answer.json()["active"], true);
    assert_eq!(answer.field("symbolon-view-age"), "900");
}

// --- Phantom tokens

/// A deployment whose token service makes phantom tokens, and whose gateway asks it what they say.
async fn phantoms() -> Deployment {
    Deployment::start_with(|config| {
        let issuer = &mut config.issuers[0];
        issuer.tokens = TokenKind::Phantom;
        issuer.introspection = Some(introspect::Config {
            endpoint: Some(format!("{}/introspect", issuer.issuer).parse().unwrap()),
            caller: introspect::Caller::Gateway,
            max_age: Duration::from_secs(30),
            budget: Budget {
                timeout: Duration::from_secs(10),
                ..Budget::DEFAULT
            },
        });
    })
    .await
}

// DESIGN §3, TS-16: gateway and token service meet over HTTP alone.
#[tokio::test]
async fn the_api_behind_the_gateway_gets_the_jwt_of_a_phantom_token() {
    let deployment = phantoms().await;
    let token = deployment.token().await;
    let jwt = jwt_behind(&deployment, &token).await;
    let received = deployment.api.received().pop().unwrap();
    let claims = deployment.api.claims(&received);
    assert_eq!(
        (&claims["client_id"], &claims["scope"]),
        (&json!(CLIENT), &payload(&jwt)["scope"])
    );
    assert_ne!(
        deployment.call(&jwt).await.status,
        200,
        "the whole JWT is nobody's token"
    );
    assert_eq!(deployment.call(&base64url::encode(&[7; 32])).await.status, 401);
    assert_eq!(deployment.revoke(&token).await.status, 200);
    assert_eq!(deployment.call(&token).await.status, 401);

    let unseen = deployment.token().await;
    deployment.store.set_down(true);
    assert_eq!(
        deployment.call(&unseen).await.status,
        503,
        "an outage at the token service"
    );
    deployment.store.set_down(false);
}

// TS-04, TS-16
#[tokio::test]
async fn a_phantom_token_is_known_by_introspection_alone() {
    let deployment = phantoms().await;
    let (token, other) = (deployment.token().await, deployment.token().await);
    assert_eq!((token.len(), other.len()), (43, 43), "256 random bits");
    assert_ne!(token, other);
    let claims = deployment.introspect(API, &token).await;
    assert_eq!(
        (&claims.json()["active"], claims.json()["sub"].as_str()),
        (&json!(true), Some(CLIENT))
    );
    let jwt = deployment.introspect_as(GATEWAY, &token, &[WANTS_JWT]).await;
    assert_is_private(&jwt, "application/jwt");
    canary(text(&jwt));
    let mut payload = payload(text(&jwt));
    (payload["active"], payload["token_type"]) = (true.into(), "Bearer".into());
    assert_eq!(payload, claims.json());

    let inactive = inactive(&deployment.introspect(API, &base64url::encode(&[7; 32])).await);
    for no_token in [text(&jwt), &token[1..], &token.replace(&token[..1], "~"), "x"] {
        let answer = deployment.introspect_as(GATEWAY, no_token, &[WANTS_JWT]).await;
        assert_eq!(self::inactive(&answer), inactive);
    }
    deployment.clock.advance(Duration::from_secs(600));
    assert_eq!(
        self::inactive(&deployment.introspect(API, &token).await),
        inactive,
        "expired"
    );
}

// RV-01, RV-06, RFC 7009
#[tokio::test]
async fn a_phantom_token_is_revoked_as_any_other() {
    let deployment = phantoms().await;
    let by_client = deployment.token().await;
    assert_eq!(deployment.revoke(&by_client).await.status, 200);
    let by_operator = deployment.token().await;
    assert_eq!(
        operator(&deployment, &[("token", &by_operator)]).await.status,
        200
    );
    let by_jti = deployment.token().await;
    let jti = deployment.introspect(API, &by_jti).await.json()["jti"]
        .as_str()
        .unwrap()
        .to_owned();
    canary(&jti);
    assert_eq!(operator(&deployment, &[("jti", &jti)]).await.status, 200);
    let by_subject = deployment.token().await;
    assert_eq!(operator(&deployment, &[("sub", CLIENT)]).await.status, 200);
    for token in [&by_client, &by_operator, &by_jti, &by_subject] {
        inactive(&deployment.introspect(API, token).await);
        inactive(&deployment.introspect_as(GATEWAY, token, &[WANTS_JWT]).await);
    }
    assert_eq!(
        deployment.introspect(API, &deployment.token().await).await.json()["active"],
        true
    );
    let kinds =
        |records: &[symbolon_core::Record]| records.iter().map(|record| record.kind).collect::<Vec<_>>();
    let log = log(&deployment).await;
    let (token, jti) = (symbolon_core::RecordType::Token, symbolon_core::RecordType::Jti);
    assert_eq!(kinds(&log)[..5], [token, jti, token, jti, jti]);
}

// IN-00: it is kept nowhere but in the store.
#[tokio::test]
async fn an_outage_is_no_word_on_a_phantom_token() {
    let deployment = phantoms().await;
    let token = deployment.token().await;
    assert_eq!(deployment.introspect(API, &token).await.json()["active"], true);
    deployment.store.set_down(true);
    assert_is_later(&deployment.introspect(API, &token).await);
    deployment.store.set_down(false);
    assert_eq!(deployment.introspect(API, &token).await.json()["active"], true);
}

// An operator sees of it what he sees of others.
#[tokio::test]
async fn a_phantom_token_can_be_looked_up() {
    let deployment = phantoms().await;
    let token = deployment.token().await;
    let look = async || {
        let authorization = format!("Bearer {}", crate::support::OPERATOR);
        let fields = [("authorization", authorization.as_str())];
        post(deployment.admin, "/lookup", &fields, &form(&[("token", &token)]))
            .await
            .json()["state"]
            .clone()
    };
    assert_eq!(look().await, "live");
    assert_eq!(deployment.revoke(&token).await.status, 200);
    assert_eq!(look().await, "revoked");
}

// --- Around it

#[tokio::test]
async fn introspections_are_counted_by_what_came_of_them() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    deployment.introspect(API, &token).await;
    deployment.introspect_as(GATEWAY, &token, &[WANTS_JWT]).await;
    deployment.introspect(API, &unknown_token()).await;
    deployment.introspect((CALLER, "wrong"), &token).await;
    deployment.store.set_down(true);
    deployment.introspect(API, &unknown_token()).await;
    deployment.store.set_down(false);
    let metrics = get(deployment.admin, "/metrics", &[]).await;
    for (outcome, count) in [("active", 2), ("inactive", 1), ("refused", 1), ("unavailable", 1)] {
        let line = format!("symbolon_introspections_total{{outcome=\"{outcome}\"}} {count}\n");
        assert!(text(&metrics).contains(&line), "{line}{}", text(&metrics));
    }
}

/// What a caller hears of a token with these claims besides the usual ones.
async fn tell(deployment: &Deployment, further: &Value) -> Value {
    let mut claims = claims(deployment, &base64url::encode(&symbolon_core::random::<16>()));
    assert_eq!(claims["scope"], SCOPE);
    for (name, value) in further.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let (token, publish) = split(deployment, &sign_claims(deployment, &claims));
    assert_eq!(publish.await, Published::Inserted);
    assert!(deployment.clock.now().as_secs() > 0);
    let answer = deployment.introspect(API, &token).await;
    assert_eq!(answer.status, 200);
    answer.json()
}

fn payload(jwt: &str) -> Value {
    let payload = base64url::decode(jwt.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}

/// The answer to whatever is not active, but for its date and the age of the view: with no other octet that could tell
/// one reason from another (IN-02).
fn inactive(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!(
        (answer.status.as_u16(), text(answer)),
        (200, r#"{"active":false}"#)
    );
    assert_is_private(answer, "application/json");
    let fields = answer.headers.iter();
    let fields = fields.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    fields
        .filter(|(name, _)| !["date", "symbolon-view-age"].contains(&name.as_str()))
        .collect()
}

fn assert_is_private(answer: &Answer, media_type: &str) {
    assert_eq!(answer.field("content-type"), media_type);
    assert_eq!(answer.field("cache-control"), "no-store");
    assert_eq!(answer.field("vary"), "accept");
}

fn assert_is_not_known(answer: &Answer) {
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (401, "invalid_client")
    );
    assert!(answer.field("www-authenticate").starts_with("Basic "));
}

fn assert_is_malformed(answer: &Answer) {
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (400, "invalid_request"),
        "{:?}",
        answer.body
    );
}

fn assert_is_later(answer: &Answer) {
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (503, "temporarily_unavailable")
    );
    assert_eq!(answer.field("retry-after"), "1");
}
