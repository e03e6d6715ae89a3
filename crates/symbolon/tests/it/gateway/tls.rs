//! Resource servers behind TLS (GW-57).

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use crate::support::{Deployment, OK, Upstream, eventually, with_token};

/// A certification authority, and its certificate in a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self {
            issuer,
            folder: tempfile::tempdir().unwrap(),
        };
        let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, authority.issuer.der());
        let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
        std::fs::write(authority.file(), pem).unwrap();
        authority
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A resource server with a certificate for that name.
    async fn upstream(&self, name: &str) -> Upstream {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Upstream::over_tls(certificate.der().clone(), key.serialize_der()).await
    }
}

async fn before(upstream: &Upstream, ca: Option<PathBuf>) -> Deployment {
    Deployment::before_with(upstream, |gateway| {
        let route = &mut gateway.routes[0];
        let port = upstream.address.port();
        route.resource_server = format!("https://localhost:{port}").parse().unwrap();
        route.ca = ca;
    })
    .await
}

#[tokio::test]
async fn one_whose_certificate_is_good_gets_the_request() {
    let authority = Authority::new();
    let upstream = authority.upstream("localhost").await;
    let deployment = before(&upstream, Some(authority.file())).await;
    let token = deployment.token().await;
    for _ in 0..3 {
        let answer = deployment.exchange(with_token("GET /x", &token, &[])).await;
        assert_eq!((answer.status(), &answer.body[..]), (200, &b"ok"[..]));
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (3, 1));
}

#[tokio::test]
async fn one_whose_certificate_is_not_gets_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (upstream, ca) in [
        (authority.upstream("localhost").await, Some(other.file())),
        (authority.upstream("localhost").await, None),
        (authority.upstream("other.example").await, Some(authority.file())),
    ] {
        let deployment = before(&upstream, ca).await;
        let token = deployment.token().await;
        let answer = deployment.exchange(with_token("GET /x", &token, &[])).await;
        assert_eq!((answer.status(), answer.error().as_str()), (502, "server_error"));
        eventually(|| upstream.is_idle(), "closed").await;
        assert!(upstream.octets().is_empty(), "not an octet of a request");
    }
}

#[tokio::test]
async fn one_that_speaks_no_tls_gets_nothing() {
    let upstream = Upstream::serving(|_, mut connection| async move {
        connection.send(OK).await;
        connection.is_closed().await;
    })
    .await;
    let authority = Authority::new();
    let deployment = before(&upstream, Some(authority.file())).await;
    let token = deployment.token().await;
    let answer = deployment.exchange(with_token("GET /x", &token, &[])).await;
    assert_eq!(answer.status(), 502);
    eventually(|| upstream.is_idle(), "closed").await;
    let sent = String::from_utf8_lossy(&upstream.octets()).into_owned();
    assert!(!sent.contains("Bearer"));
}
