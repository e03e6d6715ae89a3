//! Which requests go where, and which go nowhere.

use symbolon::gateway::Route;

use crate::support::{Deployment, Upstream, with_token};

/// Routes for one host and for all, each to a resource server of its own.
async fn deployment() -> (Deployment, [Upstream; 3]) {
    let upstreams = [
        Upstream::start().await,
        Upstream::start().await,
        Upstream::start().await,
    ];
    let routes = [
        (Some("orders.example"), "/"),
        (None, "/orders"),
        (None, "/orders/archive"),
    ];
    let deployment = Deployment::before_with(&upstreams[0], |gateway| {
        let route = gateway.routes.remove(0);
        let to = |(upstream, (host, path)): (&Upstream, (Option<&str>, &str))| Route {
            host: host.map(str::to_owned),
            path: path.to_owned(),
            resource_server: upstream.url(),
            ..route.clone()
        };
        gateway.routes.extend(upstreams.iter().zip(routes).map(to));
    })
    .await;
    (deployment, upstreams)
}

fn counts(upstreams: &[Upstream]) -> Vec<usize> {
    upstreams
        .iter()
        .map(|upstream| upstream.requests().len())
        .collect()
}

#[tokio::test]
async fn a_route_is_chosen_by_host_and_path() {
    let (deployment, upstreams) = deployment().await;
    let token = deployment.token().await;
    for (host, target, want) in [
        ("orders.example", "/anything?a=b&c", [1, 0, 0]),
        ("ORDERS.example", "/orders/archive", [2, 0, 0]),
        ("orders.example:8443", "/", [3, 0, 0]),
        ("orders.example:", "/", [4, 0, 0]),
        ("orders.example.", "/", [5, 0, 0]),
        ("api.example", "/orders", [5, 1, 0]),
        ("api.example", "/orders/1?x=%2f", [5, 2, 0]),
        ("[::1]:4600", "/orders/archived", [5, 3, 0]),
        ("192.0.2.1", "/orders/archive/1", [5, 3, 1]),
    ] {
        let request = with_token(&format!("GET {target}"), &token, &[]).replace("api.example", host);
        assert_eq!(deployment.exchange(request).await.status(), 200, "{host}{target}");
        assert_eq!(counts(&upstreams), want, "{host}{target}");
    }
    // HT-06: what was judged is what was sent.
    let targets = upstreams.map(|upstream| upstream.requests().last().unwrap().target().to_owned());
    assert_eq!(targets, ["/", "/orders/archived", "/orders/archive/1"]);
}

#[tokio::test]
async fn without_a_route_nothing_is_forwarded() {
    let (deployment, upstreams) = deployment().await;
    let token = deployment.token().await;
    for target in ["/", "/orders2", "/Xorders", "/order", "*"] {
        let method = if target == "*" { "OPTIONS" } else { "GET" };
        let request = with_token(&format!("{method} {target}"), &token, &[]);
        let answer = deployment.exchange(request).await;
        assert_eq!((answer.status(), answer.body.len()), (404, 0), "{target}");
    }
    assert!(upstreams.iter().all(|upstream| upstream.connections() == 0));
}

// HT-01, HT-06
#[tokio::test]
async fn a_target_at_another_host_is_refused() {
    let (deployment, upstreams) = deployment().await;
    let token = deployment.token().await;
    for (target, status) in [
        ("http://api.example/orders/1", 200),
        ("HTTP://API.EXAMPLE/orders/1", 200),
        ("https://api.example/orders/1", 200),
        ("http://orders.example/orders/1", 400),
        ("http://api.example:80/orders/1", 400),
        ("http://user@api.example/orders/1", 400),
        ("ftp://api.example/orders/1", 400),
        ("api.example", 400),
        ("orders/1", 400),
        ("//orders/1", 400),
    ] {
        let request = with_token(&format!("GET {target}"), &token, &[]);
        assert_eq!(deployment.exchange(request).await.status(), status, "{target}");
    }
    let requests = upstreams[1].requests();
    assert!(requests.iter().all(|request| request.target() == "/orders/1"));
    assert_eq!(counts(&upstreams), [0, 3, 0]);
}

// HT-01
#[tokio::test]
async fn a_host_that_is_none_is_refused() {
    let (deployment, upstreams) = deployment().await;
    let token = deployment.token().await;
    for host in [
        "",
        " ",
        ":80",
        "user@orders.example",
        "orders.example:http",
        "orders.example:123456",
        "orders.example/x",
        "orders.example, api.example",
        "orders.example\u{e4}",
        "orders%2eexample",
        "::1",
        "[::1",
        "[::1]x",
        "[::1%25eth0]",
    ] {
        let request = with_token("GET /orders", &token, &[]).replace("api.example", host);
        assert_eq!(deployment.exchange(request).await.status(), 400, "{host:?}");
    }
    assert_eq!(counts(&upstreams[1..]), [0, 0]);
}
