//! What operators are told of a token.

use std::time::Duration;

use serde_json::{Value, json};
use symbolon::store::EntryStore as _;
use symbolon_core::{OpaqueToken, Stored, UnixTime};

use crate::support::{Answer, CLIENT, Deployment, OPERATOR, canary, form, get, post};

async fn look_up(deployment: &Deployment, token: &str, claims: &str) -> Answer {
    let bearer = format!("Bearer {OPERATOR}");
    let form = form(&[("token", token), ("claims", claims)]);
    post(deployment.admin, "/lookup", &[("authorization", &bearer)], &form).await
}

async fn seen(deployment: &Deployment, token: &str) -> Value {
    let answer = look_up(deployment, token, "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("cache-control"), "no-store");
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(
        !text.contains(CLIENT) && !text.contains(token),
        "no claim and no token"
    );
    answer.json()
}

#[tokio::test]
async fn a_token_is_live_revoked_refused_or_not_there() {
    let deployment = Deployment::start().await;
    let revoke = async |parameters: &[(&str, &str)]| {
        let bearer = format!("Bearer {OPERATOR}");
        let answer = post(
            deployment.admin,
            "/revoke",
            &[("authorization", &bearer)],
            &form(parameters),
        )
        .await;
        assert_eq!(answer.status, 200);
    };
    let token = deployment.token().await;
    let live = seen(&deployment, &token).await;
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let ends = live["expires_at"].as_u64().unwrap();
    assert!((now + 590..=now + 600).contains(&ends), "{live}");
    assert_eq!(
        live,
        json!({
            "state": "live", "revoked_by": null, "reason": null, "expires_at": ends,
            "grant": null, "session": null, "mark": "0-1",
        })
    );

    // By its own record and tombstone, and by another of which the store's entry says nothing.
    assert_eq!(deployment.revoke(&token).await.status, 200);
    let revoked = seen(&deployment, &token).await;
    assert_eq!(
        (&revoked["state"], &revoked["revoked_by"]),
        (&json!("revoked"), &json!("token"))
    );
    assert_eq!(revoked["expires_at"], ends);
    let other = deployment.token().await;
    let claims = look_up(&deployment, &other, "true").await.json()["claims"].clone();
    revoke(&[("jti", claims["jti"].as_str().unwrap())]).await;
    let revoked = seen(&deployment, &other).await;
    assert_eq!(
        (&revoked["state"], &revoked["revoked_by"]),
        (&json!("revoked"), &json!("jti"))
    );

    // Never published, and then revoked all the same.
    let unknown = format!("{}Q", "A".repeat(85));
    assert_eq!(seen(&deployment, &unknown).await["state"], "absent");
    revoke(&[("token", &unknown)]).await;
    assert_eq!(seen(&deployment, &unknown).await["state"], "revoked");

    // Somebody else's half.
    let key = |token: &str| token.parse::<OpaqueToken>().unwrap().entry_key();
    let poisoned = format!("{}g", "A".repeat(85));
    let third = deployment.token().await;
    let Stored::Live(entry) = deployment.store.get(key(&third)).await.unwrap() else {
        panic!("it is live")
    };
    let later = UnixTime::from_secs(now + 600);
    deployment
        .store
        .publish(key(&poisoned), &entry, later)
        .await
        .unwrap();
    let unreadable = seen(&deployment, &poisoned).await;
    assert_eq!(unreadable["state"], "unreadable");
    assert!(unreadable["reason"].is_string());

    deployment.clock.advance(Duration::from_secs(600));
    let refused = seen(&deployment, &third).await;
    assert_eq!(
        (&refused["state"], &refused["reason"]),
        (&json!("refused"), &json!("token has expired"))
    );
}

#[tokio::test]
async fn claims_are_for_operators_who_ask_for_them() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    assert_eq!(deployment.call(&token).await.status, 200);
    let received = deployment.api.received().remove(0);
    let told = look_up(&deployment, &token, "true").await.json();
    assert_eq!(told["claims"], deployment.api.claims(&received));
    assert_eq!(
        (&told["header"]["alg"], &told["header"]["typ"]),
        (&json!("ES256"), &json!("at+jwt"))
    );

    canary("canary-nobody-0123456789");
    let body = form(&[("token", &token), ("claims", "true")]);
    for authorization in [
        "",
        "Bearer ",
        "Bearer canary-nobody-0123456789",
        &format!("Bearer {token}"),
    ] {
        let answer = post(
            deployment.admin,
            "/lookup",
            &[("authorization", authorization)],
            &body,
        )
        .await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().as_str()),
            (401, "invalid_token")
        );
    }
    assert_eq!(get(deployment.admin, "/lookup", &[]).await.status, 405);
    for (token, why) in [
        ("", "no token"),
        ("a.b.c", "that is no opaque token of an issuer here"),
    ] {
        let refused = look_up(&deployment, token, "").await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.json()["error_description"], why);
    }
}

#[tokio::test]
async fn an_outage_is_told_as_one() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    deployment.store.set_down(true);
    let answer = look_up(&deployment, &token, "").await;
    assert_eq!((answer.status.as_u16(), answer.field("retry-after")), (503, "1"));
}
