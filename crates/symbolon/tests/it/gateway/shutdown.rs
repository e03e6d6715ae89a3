//! The end of a process: what is under way is finished, and nothing new begins.

use std::sync::Arc;
use std::time::Duration;

use symbolon::listener::Limits;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::support::{Deployment, OK, RawConnection, Upstream, eventually, with_token, within};

/// Answers when it is told to.
async fn slow_upstream() -> (Upstream, Arc<Notify>) {
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    let upstream = Upstream::serving(move |upstream, mut connection| {
        let told = Arc::clone(&told);
        async move {
            while let Some(request) = connection.message().await {
                upstream.note(request);
                told.notified().await;
                connection.send(OK).await;
            }
        }
    })
    .await;
    (upstream, go_on)
}

#[tokio::test]
async fn a_request_under_way_is_finished_and_no_new_one_begins() {
    let (upstream, go_on) = slow_upstream().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let gateway = deployment.gateway;
    let request = with_token("GET /x", &token, &[]);

    let (mut busy, mut resting) = (deployment.client().await, deployment.client().await);
    busy.send(&request).await;
    eventually(|| upstream.requests().len() == 1, "forwarded").await;
    let stopped = tokio::spawn(deployment.process.stop());
    assert!(resting.is_closed().await, "one that rests is closed at once");
    assert!(TcpStream::connect(gateway).await.is_err(), "nobody listens");
    assert!(!stopped.is_finished());

    go_on.notify_one();
    let answer = busy.answer().await;
    assert_eq!((answer.status(), answer.field("connection")), (200, "close"));
    busy.send(&request).await;
    assert!(busy.is_closed().await);
    drop((busy, resting));
    within(stopped).await.unwrap();
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_off() {
    let (upstream, _never) = slow_upstream().await;
    let mut settings = None;
    let deployment = Deployment::before_with(&upstream, |gateway| settings = Some(gateway.clone())).await;
    let token = deployment.token().await;
    let limits = Limits {
        drain: Duration::from_millis(200),
        ..Limits::of(10)
    };
    let issuers = deployment.process.issuers.clone();
    let gateway = deployment
        .second_gateway(settings.unwrap(), issuers, limits)
        .await;
    let mut client = RawConnection::connect(gateway.address).await;
    client.send(with_token("GET /x", &token, &[])).await;
    eventually(|| upstream.requests().len() == 1, "forwarded").await;
    within(gateway.stop()).await;
    assert!(client.is_closed().await);
}
