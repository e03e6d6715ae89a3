//! What strangers may take (HT-07; requirements §4.4, 18 and 19).

use std::time::Duration;

use symbolon::listener::Limits;

use crate::support::{Deployment, RawConnection, Upstream, eventually, with_token};

#[tokio::test]
async fn a_header_is_refused_when_it_is_too_large() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let field = |length: usize| format!("X-Pad: {}", "x".repeat(length - "X-Pad".len()));
    let target = |length: usize| format!("GET /{}", "x".repeat(length - 1));
    let fields = |count: usize| vec!["X-Pad: x".to_owned(); count];
    for (line, fields, status) in [
        (target(8 * 1024), vec![], 200),
        (target(8 * 1024 + 1), vec![], 414),
        (target(60 * 1024), vec![], 414),
        (target(70 * 1024), vec![], 431),
        (target(1), vec![field(16 * 1024)], 200),
        (target(1), vec![field(16 * 1024 + 1)], 431),
        (target(1), vec![field(16 * 1024 - 100); 4], 200),
        (target(1), vec![field(16 * 1024); 4], 431),
        (target(1), fields(98), 200),
        (target(1), fields(99), 431),
        (target(1), fields(1000), 431),
    ] {
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        let mut client = deployment.client().await;
        client.send(with_token(&line, &token, &fields)).await;
        let sizes = (line.len(), fields.len(), fields.first().map(|field| field.len()));
        assert_eq!(client.answer().await.status(), status, "{sizes:?}");
        if status != 200 {
            assert!(client.is_closed().await, "{sizes:?}");
        }
    }
    assert_eq!(upstream.requests().len(), 4);
}

#[tokio::test]
async fn trailers_and_extensions_of_chunks_have_an_end() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let head = with_token("POST /x", &token, &["Transfer-Encoding: chunked"]);
    for body in [
        format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1_000_000)),
        format!("5\r\nhello\r\n0\r\n{}\r\n", "X: y\r\n".repeat(1_000)),
        format!("5\r\nhello\r\n0\r\nX: {}\r\n\r\n", "y".repeat(1_000_000)),
    ] {
        let answer = deployment.exchange(head.clone() + &body).await;
        assert_eq!(
            (answer.status(), answer.error().as_str()),
            (400, "invalid_request")
        );
    }
    assert!(upstream.requests().is_empty());
}

/// A gateway with other limits, before that resource server.
async fn gateway(upstream: &Upstream, limits: Limits) -> (Deployment, crate::support::Second) {
    let mut settings = None;
    let deployment = Deployment::before_with(upstream, |gateway| settings = Some(gateway.clone())).await;
    let issuers = deployment.process.issuers.clone();
    let gateway = deployment
        .second_gateway(settings.unwrap(), issuers, limits)
        .await;
    (deployment, gateway)
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_header_is_let_go() {
    let upstream = Upstream::start().await;
    let limits = Limits {
        header: Duration::from_millis(200),
        ..Limits::of(10)
    };
    let (deployment, gateway) = gateway(&upstream, limits).await;
    let token = deployment.token().await;
    for sent in [
        "",
        "GET / HT",
        "GET / HTTP/1.1\r\nHost: api.example\r\n",
        "\r\n\r\n",
    ] {
        let mut client = RawConnection::connect(gateway.address).await;
        client.send(sent).await;
        assert!(client.is_closed().await, "{sent:?}");
    }
    let mut client = RawConnection::connect(gateway.address).await;
    client.send(with_token("GET /x", &token, &[])).await;
    assert_eq!(client.answer().await.status(), 200);
    assert!(client.is_closed().await, "one that rests is closed as well");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go() {
    let upstream = Upstream::serving(|_, mut connection| async move {
        connection.message().await.unwrap();
        connection.send("HTTP/1.1 200 OK\r\n\r\n").await;
        let part = vec![b'x'; 64 * 1024];
        while connection.send_some(&part).await {}
    })
    .await;
    let limits = Limits {
        stall: Duration::from_millis(200),
        ..Limits::of(10)
    };
    let (deployment, gateway) = gateway(&upstream, limits).await;
    let token = deployment.token().await;
    let mut client = RawConnection::connect(gateway.address).await;
    client.send(with_token("GET /x", &token, &[])).await;
    eventually(|| upstream.connections() == 1, "forwarded").await;
    eventually(|| upstream.is_idle(), "let go").await;
    drop(client);
}

#[tokio::test]
async fn more_connections_than_there_are_places_wait() {
    let upstream = Upstream::start().await;
    let (deployment, gateway) = gateway(&upstream, Limits::of(2)).await;
    let token = deployment.token().await;
    let request = with_token("GET /x", &token, &[]);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = RawConnection::connect(gateway.address).await;
        client.send(&request).await;
        clients.push(client);
    }
    assert_eq!(clients[0].answer().await.status(), 200);
    assert_eq!(clients[1].answer().await.status(), 200);
    assert_eq!(upstream.requests().len(), 2, "the third waits");
    clients.remove(0);
    assert_eq!(clients[1].answer().await.status(), 200, "until one is gone");
}
