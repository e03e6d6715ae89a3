//! An outage of the authorization server, or a fault in how it is set up, is never told as a bad token.

use std::time::Duration;

use serde_json::json;

use super::{PHANTOM, Phantom, asking};
use crate::support::{Answer, eventually, within};

fn is_outage(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 503, "{what}");
    assert_eq!(answer.error(), "temporarily_unavailable", "{what}");
    assert_eq!(answer.field("retry-after"), "1", "{what}");
    assert!(!answer.headers.contains_key("www-authenticate"), "{what}");
}

// GW-12, issue 6
#[tokio::test]
async fn what_is_no_word_on_the_token_is_an_outage() {
    let json = [("content-type", "application/json")];
    let jwt = [("content-type", "application/jwt")];
    let active = |jwt: &str| json!({ "active": true, "jwt": jwt }).to_string();
    for (status, fields, body) in [
        (400, &json[..], r#"{"error":"unsupported_token_type"}"#.to_owned()),
        (401, &json, r#"{"error":"invalid_client"}"#.to_owned()),
        (403, &json, r#"{"active":false}"#.to_owned()),
        (404, &json, r#"{"active":false}"#.to_owned()),
        (429, &[], String::new()),
        (500, &[], String::new()),
        (503, &json, r#"{"active":false}"#.to_owned()),
        (302, &[("location", "/realms/acme/introspect")], String::new()),
        (307, &[("location", "/realms/acme/introspect")], String::new()),
        (200, &[], r#"{"active":false}"#.to_owned()),
        (200, &[("content-type", "text/html")], "<html>".to_owned()),
        (200, &json, r#"{"active":false,"active":true}"#.to_owned()),
        (200, &json, "{}".to_owned()),
        (200, &json, active("a.b")),
        (200, &json, active("a.b.c.d.e")),
        (200, &jwt, "no JWT".to_owned()),
        (200, &jwt, String::new()),
        (200, &jwt, "a".repeat(200_000)),
        (
            200,
            &[("content-type", "application/token-introspection+jwt")],
            "JWT".to_owned(),
        ),
    ] {
        let phantom = Phantom::start().await;
        let body = if body == "JWT" {
            phantom.jwt(&json!({}))
        } else {
            body
        };
        phantom.server.introspects(status, fields, body.as_str());
        let what = format!("{status} {fields:?} {}", &body[..body.len().min(40)]);
        is_outage(&phantom.call(PHANTOM).await, &what);
        assert_eq!(
            phantom.server.introspected(),
            1,
            "no redirect is followed: {what}"
        );
        assert!(phantom.deployment.api.received().is_empty());
        // And it is over when it is over.
        phantom.gives(&json!({}));
        assert_eq!(phantom.call(PHANTOM).await.status, 200);
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let phantom = Phantom::start_with(|config| {
        asking(config).budget.timeout = Duration::from_millis(50);
    })
    .await;
    phantom.gives(&json!({}));
    phantom.server.hold(true);
    is_outage(&within(phantom.call(PHANTOM)).await, "held");

    let port = crate::support::free_port();
    let phantom = Phantom::start_with(|config| {
        let nobody = format!("http://127.0.0.1:{port}/introspect");
        asking(config).endpoint = Some(nobody.parse().unwrap());
    })
    .await;
    is_outage(&phantom.call(PHANTOM).await, "nobody there");
}

// Issue 6: claims alone are this deployment's mistake, with a name of its own
#[tokio::test]
async fn claims_without_a_jwt_have_an_error_of_their_own() {
    let phantom = Phantom::start().await;
    let claims = json!({ "active": true, "sub": "canary-subject-81", "scope": crate::support::SCOPE });
    let fields = [("content-type", "application/json")];
    phantom.server.introspects(200, &fields, claims.to_string());
    for _ in 0..10 {
        let answer = phantom.call(PHANTOM).await;
        assert_eq!(answer.status, 502);
        assert_eq!(answer.error(), "introspection_without_jwt");
    }
    assert!(phantom.deployment.api.received().is_empty());
}

// IN-09: a server that fails is left alone for a moment
#[tokio::test]
async fn a_server_that_fails_is_asked_no_more_for_a_second() {
    let phantom = Phantom::start().await;
    phantom.server.introspects(500, &[], "");
    for number in 0..20 {
        is_outage(
            &phantom.call(&format!("canary-failing-{number}")).await,
            "failing",
        );
    }
    assert_eq!(phantom.server.introspected(), 5);
    phantom.gives(&json!({}));
    is_outage(&phantom.call(PHANTOM).await, "resting");
    phantom.deployment.clock.advance(Duration::from_secs(1));
    assert_eq!(phantom.call(PHANTOM).await.status, 200);
    assert_eq!(phantom.server.introspected(), 6);
}

// IN-09: who has a token that the server chokes on takes it from nobody else
#[tokio::test]
async fn what_is_wrong_with_one_token_is_no_fault_that_others_feel() {
    let phantom = Phantom::start().await;
    for (name, status, body) in [
        ("type", 400, r#"{"error":"unsupported_token_type"}"#),
        ("access", 403, r#"{"error":"access_denied"}"#),
        ("jwe", 200, r#"{"active":true,"jwt":"a.b.c.d.e"}"#),
    ] {
        let before = phantom.server.introspected();
        phantom
            .server
            .introspects(status, &[("content-type", "application/json")], body);
        for number in 0..10 {
            let answer = phantom.call(&format!("canary-choking-{name}-{number}")).await;
            is_outage(&answer, body);
        }
        assert_eq!(phantom.server.introspected(), before + 10, "{body}");
        phantom.gives(&json!({}));
        assert_eq!(phantom.call(&format!("canary-good-{name}")).await.status, 200);
    }
}

// IN-09: all who miss the same token share one question
#[tokio::test]
async fn those_who_bring_the_same_token_share_one_question() {
    let phantom = Phantom::start().await;
    phantom.gives(&json!({}));
    phantom.server.hold(true);
    let calls: Vec<_> = (0..20).map(|_| phantom.spawn_call(PHANTOM)).collect();
    eventually(|| phantom.server.introspected() == 1, "the question").await;
    phantom.server.hold(false);
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!(phantom.server.introspected(), 1);
}

// IN-09: however many unknown tokens come, the server is asked within the budget, and what is known is served
#[tokio::test]
async fn a_flood_of_unknown_tokens_stays_within_the_budget() {
    let phantom = Phantom::start_with(|config| {
        let budget = &mut asking(config).budget;
        (budget.per_second, budget.in_flight) = (10, 5);
    })
    .await;
    phantom.gives(&json!({}));
    assert_eq!(phantom.call(PHANTOM).await.status, 200);
    phantom.says_inactive();
    let mut refused = 0;
    for number in 0..200 {
        let answer = phantom.call(&format!("canary-unknown-{number}")).await;
        if answer.status == 503 {
            is_outage(&answer, "over budget");
            refused += 1;
        } else {
            assert_eq!(answer.status, 401);
        }
    }
    assert_eq!((phantom.server.introspected(), refused), (10, 191));
    assert_eq!(
        phantom.call(PHANTOM).await.status,
        200,
        "what is known needs no question"
    );

    // And no more at once than may be.
    phantom.deployment.clock.advance(Duration::from_secs(2));
    phantom.server.hold(true);
    let before = phantom.server.introspected();
    let calls: Vec<_> = (0..8)
        .map(|number| phantom.spawn_call(&format!("canary-held-token-{number}")))
        .collect();
    let enough = || phantom.server.introspected() == before + 5;
    eventually(enough, "as many questions as may be").await;
    let over = || calls.iter().filter(|call| call.is_finished()).count() == 3;
    eventually(over, "the others to be refused").await;
    phantom.server.hold(false);
    let mut statuses = Vec::new();
    for call in calls {
        statuses.push(call.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 503, 503, 503]);
}
