//! Bodies pass as they come, and as they were framed, or not at all.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::support::{Deployment, Message, OK, Upstream, eventually, post, with_token, within};

const CHUNKED: &[&str] = &["Transfer-Encoding: chunked"];

/// A resource server that answers once the body is there, and tells of each chunk of it.
async fn upstream_of_chunks() -> (Upstream, Arc<Notify>) {
    let chunk_came = Arc::new(Notify::new());
    let tell = Arc::clone(&chunk_came);
    let upstream = Upstream::serving(move |upstream, mut connection| {
        let tell = Arc::clone(&tell);
        async move {
            let mut request = connection.head().await.unwrap();
            loop {
                match connection.chunk().await {
                    Some(data) if data.is_empty() => break,
                    Some(data) => request.body.extend(data),
                    None => return,
                }
                tell.notify_one();
            }
            upstream.note(request);
            connection.send(OK).await;
        }
    })
    .await;
    (upstream, chunk_came)
}

#[tokio::test]
async fn an_upload_is_streamed() {
    let (upstream, chunk_came) = upstream_of_chunks().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let mut client = deployment.client().await;
    client.send(with_token("PUT /x", &token, CHUNKED)).await;
    for chunk in ["5\r\nfirst\r\n", "6\r\nsecond\r\n", "5\r\nthird\r\n"] {
        client.send(chunk).await;
        within(chunk_came.notified()).await;
    }
    assert!(upstream.requests().is_empty(), "it has not come to its end");
    client.send("0\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 200);
    assert_eq!(upstream.request().body, b"firstsecondthird");
}

#[tokio::test]
async fn a_client_may_pause_for_longer_than_the_resource_server() {
    let (upstream, chunk_came) = upstream_of_chunks().await;
    let timeout = Duration::from_millis(100);
    let deployment = Deployment::before_with(&upstream, |gateway| gateway.routes[0].timeout = timeout).await;
    let token = deployment.token().await;
    let mut client = deployment.client().await;
    client.send(with_token("PUT /x", &token, CHUNKED)).await;
    client.send("5\r\nfirst\r\n").await;
    within(chunk_came.notified()).await;
    // The time itself is what is tested here.
    tokio::time::sleep(timeout * 4).await;
    client.send("0\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test]
async fn a_download_is_streamed() {
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    let upstream = Upstream::serving(move |_, mut connection| {
        let told = Arc::clone(&told);
        async move {
            connection.message().await.unwrap();
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            connection.send(head).await;
            for event in ["data: 1\n\n", "data: 2\n\n"] {
                connection.send(format!("9\r\n{event}\r\n")).await;
                told.notified().await;
            }
            connection.send("0\r\n\r\n").await;
        }
    })
    .await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let mut client = deployment.client().await;
    client.send(with_token("GET /events", &token, &[])).await;
    let head = within(client.head()).await.unwrap();
    assert_eq!(head.field("content-type"), "text/event-stream");
    for event in ["data: 1\n\n", "data: 2\n\n", ""] {
        assert_eq!(within(client.chunk()).await.unwrap(), event.as_bytes());
        go_on.notify_one();
    }
}

#[tokio::test]
async fn a_request_passes_from_one_http_library_to_another() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    let (path, body) = ("/orders/1?a=b&c=%20", "two\r\nlines");
    let authorization = format!("Bearer {token}");
    let fields = [("authorization", &*authorization), ("x-want-status", "201")];
    let answer = post(deployment.gateway, path, &fields, body).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (201, body.as_bytes()));

    let received = deployment.api.received().remove(0);
    assert_eq!(
        (received.method.as_str(), received.target.as_str()),
        ("POST", path)
    );
    assert_eq!(received.body, body.as_bytes());
    assert_eq!(
        received.headers["content-type"],
        "application/x-www-form-urlencoded"
    );
    deployment.api.claims(&received);
}

#[tokio::test]
async fn a_body_keeps_its_length_or_its_lack_of_one() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    for method in ["GET", "POST", "DELETE", "OPTIONS", "REPORT"] {
        for (fields, body, framing) in [
            (&["Content-Length: 5"][..], "hello", ("5", "")),
            (CHUNKED, chunks, ("", "chunked")),
            (&["Transfer-Encoding: CHUNKED"], chunks, ("", "chunked")),
            (&["Content-Length: 5", "Content-Length: 5"], "hello", ("5", "")),
            (&["Content-Length: 0"], "", ("0", "")),
        ] {
            let request = with_token(&format!("{method} /x"), &token, fields) + body;
            let sent = upstream.requests().len();
            assert_eq!(
                deployment.exchange(request).await.status(),
                200,
                "{method} {fields:?}"
            );
            let request = upstream.requests().remove(sent);
            assert_eq!(
                (
                    request.field("content-length"),
                    request.field("transfer-encoding")
                ),
                framing,
                "{method} {fields:?}"
            );
            let body = if body.is_empty() { "" } else { "hello" };
            assert_eq!(request.body, body.as_bytes(), "{method} {fields:?}");
        }
    }
}

#[tokio::test]
async fn a_large_body_passes_whole() {
    let upstream = Upstream::serving(|upstream, mut connection| async move {
        let request = connection.message().await.unwrap();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            request.body.len()
        );
        connection.send(head).await;
        connection.send(&request.body).await;
        upstream.note(request);
    })
    .await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let body: Vec<u8> = (0..5_000_000_u32)
        .map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[2])
        .collect();
    let head = with_token("PUT /x", &token, &[&format!("Content-Length: {}", body.len())]);
    let answer = deployment.exchange([head.as_bytes(), &body].concat()).await;
    assert!(answer.is_whole && answer.body == body && upstream.request().body == body);
}

#[tokio::test]
async fn an_answer_without_a_body_stays_one() {
    let token_answers = [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", "1234"),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "",
        ),
        ("GET", "HTTP/1.1 204 No Content\r\nX-End: 1\r\n\r\n", ""),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", ""),
    ];
    for (method, answer, length) in token_answers {
        let upstream = Upstream::answering(answer).await;
        let deployment = Deployment::before(&upstream).await;
        let token = deployment.token().await;
        let mut client = deployment.client().await;
        for _ in 0..2 {
            client
                .send(with_token(&format!("{method} /x"), &token, &[]))
                .await;
            let head = within(client.head()).await.unwrap();
            assert_eq!(head.line, answer.split("\r\n").next().unwrap());
            assert_eq!(head.field("content-length"), length, "{answer}");
        }
    }
}

// HT-01, the other way round: a resource server cannot make a client read two answers out of one.
#[tokio::test]
async fn an_answer_with_doubtful_framing_is_none() {
    for (fields, expected) in [
        ("Content-Length: 5\r\nContent-Length: 6", 502),
        ("Content-Length: 5, 6", 502),
        ("Content-Length: 5\r\nContent-Length: 5", 502),
        ("Content-Length: 5, 5", 502),
        ("Content-Length: +5", 502),
        ("Transfer-Encoding: gzip, chunked", 502),
        ("Transfer-Encoding: gzip", 502),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 502),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3", 200),
        ("Content-Length: 3\r\nTransfer-Encoding: chunked", 200),
    ] {
        let upstream = Upstream::serving(move |_, mut connection| async move {
            connection.message().await.unwrap();
            let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
            connection.send(answer).await;
        })
        .await;
        let deployment = Deployment::before(&upstream).await;
        let token = deployment.token().await;
        let answer = deployment.exchange(with_token("GET /x", &token, &[])).await;
        assert_eq!(answer.status(), expected, "{fields}");
        if expected == 200 {
            assert_eq!(answer.body, b"hello", "{fields}");
            assert!(answer.all("content-length").is_empty(), "{fields}");
        }
    }
}

#[tokio::test]
async fn half_an_answer_is_not_made_a_whole_one() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nnonsense\r\n\r\n",
    ] {
        let upstream = Upstream::serving(move |_, mut connection| async move {
            connection.message().await.unwrap();
            connection.send(answer).await;
        })
        .await;
        let deployment = Deployment::before(&upstream).await;
        let token = deployment.token().await;
        let mut client = deployment.client().await;
        client.send(with_token("GET /x", &token, &[])).await;
        let answer: Message = client.answer().await;
        assert_eq!(answer.status(), 200);
        assert!(!answer.is_whole && client.is_closed().await);
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_ends_the_request_there_too() {
    for (fields, body) in [(&["Content-Length: 100"][..], "half"), (CHUNKED, "4\r\nhalf\r\n")] {
        let upstream = Upstream::start().await;
        let deployment = Deployment::before(&upstream).await;
        let token = deployment.token().await;
        let mut client = deployment.client().await;
        client.send(with_token("POST /x", &token, fields) + body).await;
        eventually(|| upstream.octets().ends_with(body.as_bytes()), "half of it").await;
        drop(client);
        eventually(|| upstream.is_idle(), "its connection is closed").await;
        assert!(upstream.requests().is_empty(), "it did not come to its end");
    }
}

// HT-01
#[tokio::test]
async fn a_chunk_that_is_none_ends_the_request_there_too() {
    for body in [
        "4\r\nhalf\r\nnonsense\r\n\r\n",
        "4\r\nhalf\r\n0\n\n",
        "4\r\nhalfx\r\n0\r\n\r\n",
        "4\r\nhalf\r\nffffffffffffffff1\r\n",
    ] {
        let upstream = Upstream::start().await;
        let deployment = Deployment::before(&upstream).await;
        let token = deployment.token().await;
        let mut client = deployment.client().await;
        client.send(with_token("POST /x", &token, CHUNKED) + body).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status(), answer.error().as_str()),
            (400, "invalid_request")
        );
        assert!(client.is_closed().await);
        eventually(|| upstream.is_idle(), "its connection is closed").await;
        assert!(upstream.requests().is_empty(), "it did not come to its end");
    }
}

// RFC 9112 §9.6: a reset could take the answer away again.
#[tokio::test]
async fn a_client_that_is_refused_amid_a_large_upload_is_not_reset_but_hears_why() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let body = vec![b'x'; 10_000_000];
    let mut client = deployment.client().await;
    client
        .send(with_token("PUT /x", "x", &["Content-Length: 10000000"]))
        .await;
    assert!(client.send_some(&body).await, "it is let finish");
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.error().as_str()), (401, "invalid_token"));
    assert!(client.is_closed().await);
    assert_eq!(upstream.connections(), 0);
}
