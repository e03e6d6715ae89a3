//! Connections to resource servers: kept, never trusted, and nothing is sent twice (requirements §4.4, 12).

use std::sync::Arc;
use std::time::Duration;

use symbolon::gateway::Route;
use tokio::sync::Notify;

use crate::support::{Deployment, OK, Upstream, eventually, free_port, with_token};

fn with_timeout(timeout: Duration) -> impl FnOnce(&mut symbolon::gateway::Config) {
    move |gateway| gateway.routes[0].timeout = timeout
}

#[tokio::test]
async fn they_are_kept_and_shared() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    for _ in 0..20 {
        let answer = deployment.exchange(with_token("GET /x", &token, &[])).await;
        assert_eq!(answer.status(), 200);
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (20, 1));
}

#[tokio::test]
async fn routes_to_the_same_server_share_them() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before_with(&upstream, |gateway| {
        let route = gateway.routes[0].clone();
        let path = "/other".to_owned();
        gateway.routes.push(Route { path, ..route });
    })
    .await;
    let token = deployment.token().await;
    for target in ["/x", "/other/x", "/x"] {
        deployment
            .exchange(with_token(&format!("GET {target}"), &token, &[]))
            .await;
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (3, 1));
}

#[tokio::test]
async fn a_request_whose_connection_breaks_is_not_sent_again() {
    for answered_before in [0, 1] {
        let upstream = Upstream::serving(move |upstream, mut connection| async move {
            for _ in 0..answered_before {
                upstream.note(connection.message().await.unwrap());
                connection.send(OK).await;
            }
            upstream.note(connection.message().await.unwrap());
        })
        .await;
        let deployment = Deployment::before(&upstream).await;
        let token = deployment.token().await;
        for _ in 0..answered_before {
            let answer = deployment.exchange(with_token("GET /x", &token, &[])).await;
            assert_eq!(answer.status(), 200);
        }
        let answer = deployment.exchange(with_token("GET /x", &token, &[])).await;
        assert_eq!((answer.status(), answer.error().as_str()), (502, "server_error"));
        assert_eq!(upstream.requests().len(), answered_before + 1);
        assert_eq!(upstream.connections(), 1);
    }
}

#[tokio::test]
async fn one_that_was_closed_while_it_rested_is_replaced() {
    let upstream = Upstream::serving(|upstream, mut connection| async move {
        upstream.note(connection.message().await.unwrap());
        connection.send(OK).await;
    })
    .await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    for count in 1..5 {
        let answer = deployment.exchange(with_token("GET /x", &token, &[])).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(upstream.connections(), count);
        eventually(|| upstream.is_idle(), "closed").await;
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_a_bad_gateway() {
    let upstream = Upstream::start().await;
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let deployment = Deployment::before_with(&upstream, |gateway| {
        gateway.routes[0].resource_server = nowhere.parse().unwrap();
    })
    .await;
    let token = deployment.token().await;
    let answer = deployment.exchange(with_token("GET /x", &token, &[])).await;
    assert_eq!((answer.status(), answer.error().as_str()), (502, "server_error"));
}

#[tokio::test]
async fn an_answer_that_is_none_is_a_bad_gateway() {
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(1_000_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(200));
    for answer in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 99 Low\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: broken off",
        &*long.leak(),
        &*many.leak(),
    ] {
        let upstream = Upstream::serving(move |_, mut connection| async move {
            connection.message().await.unwrap();
            connection.send(answer).await;
        })
        .await;
        let deployment = Deployment::before(&upstream).await;
        let token = deployment.token().await;
        let answered = deployment.exchange(with_token("GET /x", &token, &[])).await;
        assert_eq!(answered.status(), 502, "{answer:.40}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_in_time_is_let_go() {
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    let upstream = Upstream::serving(move |upstream, mut connection| {
        let told = Arc::clone(&told);
        async move {
            while let Some(request) = connection.message().await {
                let late = request.target() == "/late";
                upstream.note(request);
                if late {
                    told.notified().await;
                    connection.send(OK.replace("ok", "NO")).await;
                } else {
                    connection.send(OK).await;
                }
            }
        }
    })
    .await;
    let deployment = Deployment::before_with(&upstream, with_timeout(Duration::from_millis(200))).await;
    let token = deployment.token().await;
    let answer = deployment.exchange(with_token("GET /late", &token, &[])).await;
    assert_eq!((answer.status(), answer.error().as_str()), (504, "server_error"));
    go_on.notify_one();
    // What it says too late is nobody's answer.
    for _ in 0..5 {
        let answer = deployment.exchange(with_token("GET /x", &token, &[])).await;
        assert_eq!((answer.status(), &answer.body[..]), (200, &b"ok"[..]));
    }
    assert_eq!(upstream.requests().len(), 6);
}

#[tokio::test]
async fn what_a_server_says_unasked_is_nobody_s_answer() {
    let upstream = Upstream::serving(|upstream, mut connection| async move {
        while let Some(request) = connection.message().await {
            upstream.note(request);
            connection.send(format!("{OK}{}", OK.replace("ok", "NO"))).await;
        }
    })
    .await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    for _ in 0..20 {
        let answer = deployment.exchange(with_token("GET /x", &token, &[])).await;
        assert_eq!((answer.status(), &answer.body[..]), (200, &b"ok"[..]));
    }
    assert_eq!(upstream.requests().len(), 20);
}

#[tokio::test]
async fn a_client_that_leaves_is_not_waited_for() {
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let upstream = Upstream::serving(move |upstream, mut connection| async move {
            upstream.note(connection.message().await.unwrap());
            connection.send(answer).await;
            assert!(connection.is_closed().await, "and nothing more comes");
        })
        .await;
        let deployment = Deployment::before(&upstream).await;
        let token = deployment.token().await;
        let mut client = deployment.client().await;
        client.send(with_token("GET /x", &token, &[])).await;
        eventually(|| upstream.requests().len() == 1, "forwarded").await;
        drop(client);
        eventually(|| upstream.is_idle(), "its connection is closed").await;
    }
}
