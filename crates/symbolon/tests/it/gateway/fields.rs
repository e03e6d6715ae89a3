//! Which fields pass, in both directions.

use crate::support::{Deployment, Message, Upstream, with_token};

/// What a resource server gets of a request with those fields.
async fn forwarded(deployment: &Deployment, upstream: &Upstream, fields: &[&str]) -> Message {
    let token = deployment.token().await;
    let answer = deployment.exchange(with_token("GET /x", &token, fields)).await;
    assert_eq!(answer.status(), 200);
    upstream.requests().pop().unwrap()
}

fn names(message: &Message) -> Vec<&str> {
    let mut names: Vec<_> = message.fields.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
}

// GW-50, HT-02, HT-04
#[tokio::test]
async fn what_concerns_the_client_s_connection_stays_here() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let request = forwarded(
        &deployment,
        &upstream,
        &[
            "Connection: Keep-Alive, X-Mine, Authorization, X-Forwarded-For, X-Forwarded-Host, Via",
            "Connection: x-also-mine , Host, Content-Length, Upgrade, HTTP2-Settings,,",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic x",
            "TE: trailers",
            "Trailer: X-Late",
            "Upgrade: h2c, websocket",
            "HTTP2-Settings: AAMAAABkAAQAAP__",
            "X-Mine: 1",
            "X-Also-Mine: 1",
            "X-Ours: 1",
        ],
    )
    .await;
    assert_eq!(
        names(&request),
        [
            "authorization",
            "host",
            "via",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-ours"
        ]
    );
    assert!(request.field("authorization").starts_with("Bearer ey"));
    assert_eq!(request.field("host"), upstream.address.to_string());
}

// HT-02: a request whose body seems to be none, and then the next request.
#[tokio::test]
async fn a_body_s_framing_cannot_be_named_away() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\n\r\n";
    for (framing, body, named) in [
        (
            format!("Content-Length: {}", smuggled.len()),
            smuggled.to_owned(),
            "content-length",
        ),
        (
            "Transfer-Encoding: chunked".to_owned(),
            format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len()),
            "transfer-encoding",
        ),
    ] {
        let sent = upstream.requests().len();
        let connection = format!("Connection: {named}");
        let request = with_token("POST /x", &token, &[&framing, &connection]) + &body;
        assert_eq!(deployment.exchange(request).await.status(), 200);
        let requests = upstream.requests().split_off(sent);
        assert_eq!((requests.len(), requests[0].target()), (1, "/x"), "{named}");
        assert_eq!(requests[0].body, smuggled.as_bytes());
    }
}

// What cannot be decoded is passed on, or refused, and fails neither open nor with a 500.
#[tokio::test]
async fn octets_beyond_ascii_change_nothing() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let with = |line: &[u8], token: &str, field: &[u8]| {
        let request = with_token("LINE", token, &["FIELD: x"]);
        let (before, after) = request.split_once("FIELD: x").unwrap();
        let before = before.strip_prefix("LINE").unwrap();
        [line, before.as_bytes(), field, after.as_bytes()].concat()
    };
    for field in [
        &b"X-Bin: \xff\xfe\x80"[..],
        b"Connection: \xff, close",
        b"Origin: \xff",
        b"X-Forwarded-For: \xff",
        b"Cookie: a=\xc3\x28",
    ] {
        let answer = deployment.exchange(with(b"GET /x", &token, field)).await;
        assert_eq!(answer.status(), 200, "{field:?}");
        let answer = deployment.exchange(with(b"GET /x", "x", field)).await;
        assert_eq!(answer.status(), 401, "{field:?}");
    }
    for (line, status) in [
        (&b"GET /\xc3\xa4"[..], 200),
        (b"GET /\xff\xfe", 400),
        (b"GET /x?\xff", 400),
        (b"G\xc3\xa4T /", 400),
    ] {
        let answer = deployment.exchange(with(line, &token, b"X: y")).await;
        assert_eq!(answer.status(), status, "{line:?}");
    }
    assert_eq!(upstream.requests().len(), 6);
}

// HT-05
#[tokio::test]
async fn what_a_stranger_says_of_itself_is_not_passed_on() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before_with(&upstream, |gateway| {
        gateway.strip = vec!["x-tenant".into()];
    })
    .await;
    let request = forwarded(
        &deployment,
        &upstream,
        &[
            "X-Forwarded-For: 192.0.2.1",
            "X-Forwarded-Host: admin.example",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Prefix: /admin",
            "X-Forwarded-User: admin",
            "X_Forwarded_For: 192.0.2.1",
            "X.Forwarded.For: 192.0.2.1",
            "Forwarded: for=192.0.2.1",
            "X-Real-IP: 192.0.2.1",
            "X-User: admin",
            "x_user: admin",
            "X~User: admin",
            "X-Tenant: other",
            "X_Tenant: other",
            "X-Auth-Request-Email: admin@example",
            "X_Auth_Request_Email: admin@example",
            "Content_Length: 5",
            "Transfer_Encoding: chunked",
            "Proxy: http://192.0.2.1",
            "X-HTTP-Method-Override: DELETE",
            "Client-Cert: :AAAA:",
            "DPoP: x",
            "Remote-User: admin",
            "Remote-Groups: admin",
            "X-Remote-Group: system:masters",
            "X-WebAuth-User: admin",
            "X_Authentik_Groups: admin",
            "X-Pomerium-Jwt-Assertion: x",
            "Cf-Access-Authenticated-User-Email: admin@example",
            "Tailscale-User-Login: admin",
            "X-Vouch-User: admin",
            "X-Harmless: 1",
        ],
    )
    .await;
    assert_eq!(
        names(&request),
        [
            "authorization",
            "host",
            "via",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-harmless"
        ]
    );
    assert_eq!(request.field("x-forwarded-for"), "127.0.0.1");
    assert_eq!(request.field("x-forwarded-host"), "api.example");
    assert_eq!(request.field("x-forwarded-proto"), "http");
    assert_eq!(request.field("via"), "1.1 symbolon");
}

// HT-05
#[tokio::test]
async fn a_trusted_proxy_is_believed_about_its_client() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before_with(&upstream, |gateway| {
        gateway.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let request = forwarded(
        &deployment,
        &upstream,
        &[
            "X-Forwarded-For: 192.0.2.1, 198.51.100.2",
            "X-Forwarded-For: 203.0.113.3",
            "X-Forwarded-Host: public.example",
            "X-Forwarded-Proto: https",
            "X-Forwarded-User: admin",
            "X_Forwarded_Proto: gopher",
            "Via: 1.1 outer",
        ],
    )
    .await;
    assert_eq!(
        request.field("x-forwarded-for"),
        "192.0.2.1, 198.51.100.2, 203.0.113.3, 127.0.0.1"
    );
    assert_eq!(request.field("x-forwarded-host"), "public.example");
    assert_eq!(request.field("x-forwarded-proto"), "https");
    assert_eq!(request.all("via"), ["1.1 outer", "1.1 symbolon"]);
    assert!(request.all("x-forwarded-user").is_empty());
    assert!(request.all("x_forwarded_proto").is_empty());
}

// GW-50: a trailer was looked at by nobody.
#[tokio::test]
async fn trailers_are_dropped() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let (token, other) = (deployment.token().await, deployment.token().await);
    let body = format!("5\r\nhello\r\n0\r\nAuthorization: Bearer {other}\r\nX-User: admin\r\n\r\n");
    let head = [
        "Transfer-Encoding: chunked",
        "TE: trailers",
        "Trailer: Authorization, X-User",
    ];
    let request = with_token("POST /x", &token, &head) + &body;
    assert_eq!(deployment.exchange(request).await.status(), 200);

    let request = upstream.request();
    assert_eq!(request.body, b"hello");
    assert_eq!(request.all("authorization").len(), 1);
    let sent = String::from_utf8_lossy(&upstream.octets()).into_owned();
    assert!(!sent.contains(&other) && !sent.contains("x-user"));
}

#[tokio::test]
async fn an_answer_s_hop_by_hop_fields_stay_here() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 Fine\r\nConnection: X-Hop, keep-alive\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n\
         Proxy-Authenticate: Basic\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late\r\nUpgrade: h2c\r\n\
         X-End: 1\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nContent-Length: 3\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Late: 1\r\n\r\n",
    )
    .await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let mut client = deployment.client().await;
    for _ in 0..2 {
        client.send(with_token("GET /x", &token, &["TE: trailers"])).await;
        let answer = client.answer().await;
        assert_eq!(answer.body, b"hello");
        assert_eq!(
            names(&answer),
            ["date", "set-cookie", "set-cookie", "transfer-encoding", "x-end"]
        );
    }
}

// HT-04
#[tokio::test]
async fn no_upgrade_passes() {
    let upstream = Upstream::answering(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    )
    .await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let mut client = deployment.client().await;
    let upgrade = ["Connection: Upgrade", "Upgrade: websocket"];
    client.send(with_token("GET /ws", &token, &upgrade)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.error().as_str()), (502, "server_error"));
    assert!(upstream.request().all("upgrade").is_empty());

    client.send("GET / HTTP/1.1\r\nHost: api.example\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 401, "what follows is a request");
}

// HT-04
#[tokio::test]
async fn http_2_is_not_spoken_even_if_it_is_begun_with() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let mut client = deployment.client().await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(client.is_closed().await);
    assert_eq!(upstream.connections(), 0);
}

// RFC 9110 §10.1.1
#[tokio::test]
async fn an_expectation_is_met_here_or_not_at_all() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let expecting = ["Expect: 100-continue", "Content-Length: 5"];

    let mut client = deployment.client().await;
    client.send(with_token("POST /x", &token, &expecting)).await;
    assert_eq!(client.answer().await.status(), 100);
    client.send("hello").await;
    assert_eq!(client.answer().await.status(), 200);
    let request = upstream.request();
    assert_eq!(request.body, b"hello");
    assert!(request.all("expect").is_empty());

    let mut client = deployment.client().await;
    client.send(with_token("POST /x", "none", &expecting)).await;
    assert_eq!(
        client.answer().await.status(),
        401,
        "no body is asked for in vain"
    );

    for expectation in [
        "Expect: y 100-continue",
        "Expect: 100-continue, x",
        "Expect: 200-ok",
    ] {
        let request = with_token("POST /x", &token, &[expectation, "Content-Length: 5"]);
        assert_eq!(deployment.exchange(request).await.status(), 417, "{expectation}");
    }
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn http_1_0_is_spoken_downstream_and_upstream() {
    let upstream = Upstream::serving(|upstream, mut connection| async move {
        upstream.note(connection.message().await.unwrap());
        connection.send("HTTP/1.0 200 OK\r\nX-End: 1\r\n\r\nhello").await;
    })
    .await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;

    let mut client = deployment.client().await;
    let request = with_token("GET /x", &token, &[]).replace("HTTP/1.1", "HTTP/1.0");
    client.send(request).await;
    let answer = client.answer().await;
    assert!(answer.line.starts_with("HTTP/1.0 200"));
    assert_eq!(
        (answer.body.as_slice(), answer.field("x-end")),
        (&b"hello"[..], "1")
    );
    assert!(answer.all("transfer-encoding").is_empty());
    assert!(client.is_closed().await);
    assert!(upstream.request().line.ends_with("HTTP/1.1"));

    let mut client = deployment.client().await;
    client.send(with_token("GET /x", &token, &[])).await;
    let answer = client.answer().await;
    assert!(answer.line.starts_with("HTTP/1.1 200"));
    assert_eq!(answer.body, b"hello");
    client.send(with_token("GET /x", &token, &[])).await;
    assert_eq!(client.answer().await.status(), 200, "and the connection stays");

    let request = "GET /x HTTP/1.0\r\n\r\n";
    assert_eq!(
        deployment.exchange(request).await.status(),
        400,
        "no Host, no route"
    );
}
