//! The front door, from raw octets to raw octets: the cases of `testdata/http-desync`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use symbolon::gateway::Route;

use crate::support::{Deployment, Message, RawConnection, Upstream, with_token, within};

/// Cases that come to something else than their verdict, and why.
const DIFFERENCES: [(&str, &str); 1] = [(
    "line-lf",
    "a lone LF ends a line for hyper, as RFC 9112 §2.2 allows: one request is forwarded, and the connection stays",
)];

// HT-01, HT-02, HT-04, HT-05, HT-06, HT-07, GW-01, GW-06, GW-50
#[tokio::test]
async fn every_case_comes_to_its_verdict() {
    let mut failed = Vec::new();
    let cases = cases();
    assert_eq!(cases.len(), 68);
    for case in cases {
        let seen = Seen::of(&case, &["/"]).await;
        let difference = DIFFERENCES.iter().find(|(id, _)| *id == case.id);
        match (seen.comes_to(&case), difference) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Err(reason), None) => failed.push(format!("{}: {reason} ({})", case.id, case.about)),
            (Ok(()), Some((id, _))) => failed.push(format!("{id}: it is no difference any more")),
        }
    }
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

// HT-06: the same paths, where it matters who reads them.
#[tokio::test]
async fn a_path_that_could_take_another_route_is_refused() {
    for case in cases() {
        if matches!(case.id.as_str(), "t-path-enc" | "t-path-semi" | "t-path-encslash") {
            let seen = Seen::of(&case, &["/public", "/admin"]).await;
            assert_eq!(seen.statuses(), [400], "{}", case.id);
            assert!(seen.upstream.octets().is_empty(), "{}", case.id);
        }
    }
}

// HT-01, GW-50: the vectors are what somebody thought of.
#[tokio::test]
async fn whatever_is_done_to_a_request_no_other_one_hides_in_it() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let head = with_token("POST /x", &token, &["Transfer-Encoding: chunked", "X-Pad: 1"]);
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let next = "GET /smuggled HTTP/1.1\r\nHost: api.example\r\n\r\n";
    let mut random = Random(0x5359_4d42_4f4c_4f4e);
    let mut statuses = BTreeSet::new();
    for _ in 0..120 {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let changed = random.change(head.as_bytes(), body.as_bytes());
                outcome(deployment.gateway, [&changed, next.as_bytes()].concat())
            })
            .map(tokio::spawn)
            .collect();
        for client in clients {
            statuses.extend(client.await.unwrap());
        }
    }
    assert!(statuses.contains(&200) && statuses.contains(&400) && statuses.contains(&401));
    assert!(statuses.iter().all(|status| *status < 500), "{statuses:?}");

    let sent = String::from_utf8_lossy(&upstream.octets()).into_owned();
    assert!(!sent.contains("GET /smuggled HTTP/1.1\r\n"));
    for request in upstream.requests() {
        let [authorization] = request.all("authorization")[..] else {
            panic!("not one Authorization: {}", request.line);
        };
        assert!(authorization.ends_with(&token));
        assert!(request.all("content-length").len() + request.all("transfer-encoding").len() <= 1);
    }
}

/// The statuses that it is answered with before long.
async fn outcome(gateway: SocketAddr, octets: Vec<u8>) -> Vec<u16> {
    let mut statuses = Vec::new();
    let mut client = RawConnection::connect(gateway).await;
    client.send(octets).await;
    let patience = Duration::from_millis(50);
    while let Ok(Some(answer)) = tokio::time::timeout(patience, client.message()).await {
        statuses.push(answer.status());
    }
    statuses
}

/// Xorshift: the same changes in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    /// A request with one to three changes to its octets, or to the lines of its header.
    fn change(&mut self, head: &[u8], body: &[u8]) -> Vec<u8> {
        const INSERTED: [&str; 16] = [
            "\0", "\t", "\n", "\r", "\r\n", "\r\n\r\n", "\r\n ", " ", ":", ",", ";", "%", "0", "f", "\u{85}",
            "\u{ff}",
        ];
        let mut octets = [head, body].concat();
        if self.below(4) == 0 {
            let lines: Vec<_> = head.split_inclusive(|octet| *octet == b'\n').collect();
            let (line, place) = (self.below(lines.len()), self.below(lines.len()));
            let mut lines = lines.clone();
            lines.insert(place, lines[line]);
            octets = [lines.concat().as_slice(), body].concat();
        }
        for _ in 0..=self.below(3) {
            let at = self.below(octets.len());
            match self.below(3) {
                0 => {
                    octets.remove(at);
                }
                1 => octets[at] = u8::try_from(self.below(256)).unwrap(),
                _ => {
                    let inserted = INSERTED[self.below(INSERTED.len())];
                    octets.splice(at..at, inserted.bytes());
                }
            }
        }
        octets
    }
}

struct Case {
    id: String,
    about: String,
    verdict: String,
    octets: Vec<u8>,
    stripped: Vec<String>,
}

fn cases() -> Vec<Case> {
    let file = include_str!("../../testdata/http-desync/http1-cases.json");
    let file: Value = serde_json::from_str(file).unwrap();
    let text = |case: &Value, name: &str| case[name].as_str().unwrap().to_owned();
    let cases = file["cases"].as_array().unwrap().iter();
    cases
        .map(|case| Case {
            id: text(case, "id"),
            about: text(case, "about"),
            verdict: text(case, "verdict"),
            octets: match case["raw_b64"].as_str() {
                Some(octets) => BASE64_STANDARD.decode(octets).unwrap(),
                None => oversized(&case["gen"]),
            },
            stripped: case["fields"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|name| name.as_str().unwrap().to_owned())
                .collect(),
        })
        .collect()
}

fn oversized(field: &Value) -> Vec<u8> {
    let name = field["field"].as_str().unwrap();
    let value = "a".repeat(1024 * usize::try_from(field["kilobytes"].as_u64().unwrap()).unwrap());
    let head = "GET /x HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer TOKEN\r\n";
    format!("{head}{name}: {value}\r\n\r\n").into_bytes()
}

/// What came of a case.
struct Seen {
    token: String,
    answers: Vec<Message>,
    is_closed: bool,
    upstream: Upstream,
}

impl Seen {
    async fn of(case: &Case, paths: &[&str]) -> Self {
        let upstream = Upstream::start().await;
        let deployment = Deployment::before_with(&upstream, |gateway| {
            let route = gateway.routes.remove(0);
            gateway.routes.extend(paths.iter().map(|path| Route {
                path: (*path).to_owned(),
                ..route.clone()
            }));
        })
        .await;
        let token = deployment.token().await;
        let mut client = deployment.client().await;
        client
            .send(replaced(&case.octets, b"TOKEN", token.as_bytes()))
            .await;
        let mut answers = Vec::new();
        let expected = if case.verdict == "one" { 2 } else { 1 };
        while answers.len() < expected
            && let Some(answer) = within(client.message()).await
        {
            answers.push(answer);
        }
        Self {
            token,
            answers,
            is_closed: case.verdict.starts_with("refuse") && client.is_closed().await,
            upstream,
        }
    }

    fn comes_to(&self, case: &Case) -> Result<(), String> {
        match case.verdict.as_str() {
            "refuse" => self.is_refused(),
            "refuse-or-one" => self.is_refused().or_else(|_| self.is_one_and_closed()),
            "one" => self.is_one(&[200, 401]),
            "auth-once" => self.is_one(&[200]),
            "deny" => self.is_denied(),
            "strip" => self.is_one(&[200]).and_then(|()| self.is_stripped(case)),
            verdict => Err(format!("an unknown verdict: {verdict}")),
        }
    }

    fn is_refused(&self) -> Result<(), String> {
        require(
            matches!(self.statuses()[..], [400..=499]),
            "not one answer of 4xx",
        )?;
        require(self.is_closed, "the connection stays")?;
        require(self.upstream.connections() == 0, "something went upstream")
    }

    fn is_denied(&self) -> Result<(), String> {
        require(matches!(self.statuses()[..], [400 | 401]), "neither 400 nor 401")?;
        require(self.upstream.connections() == 0, "something went upstream")
    }

    fn is_one(&self, statuses: &[u16]) -> Result<(), String> {
        require(self.statuses() == statuses, "other answers")?;
        self.is_one_upstream()
    }

    fn is_one_and_closed(&self) -> Result<(), String> {
        self.is_one(&[200])?;
        require(self.is_closed, "the connection stays")
    }

    /// One request, with one `Authorization`, which is ours, and one framing.
    fn is_one_upstream(&self) -> Result<(), String> {
        let requests = self.upstream.requests();
        let [request] = &requests[..] else {
            return Err(format!("{} requests upstream", requests.len()));
        };
        let sent = String::from_utf8_lossy(&self.upstream.octets()).into_owned();
        require(!sent.contains("smuggled"), "a request inside another")?;
        require(
            sent.matches(" HTTP/1.1\r\n").count() == 1,
            "more than one request line",
        )?;
        require(
            request.all("host") == [self.upstream.address.to_string()],
            "another host",
        )?;
        let (lengths, codings) = (request.all("content-length"), request.all("transfer-encoding"));
        require(lengths.len() + codings.len() <= 1, "more than one framing")?;
        let [authorization] = request.all("authorization")[..] else {
            return Err("not one Authorization".into());
        };
        let jwt = authorization.strip_prefix("Bearer ").unwrap_or_default();
        require(jwt.ends_with(&format!(".{}", self.token)), "not the JWT")
    }

    fn is_stripped(&self, case: &Case) -> Result<(), String> {
        let request = self.upstream.request();
        let sent = String::from_utf8_lossy(&case.octets).into_owned();
        for name in &case.stripped {
            let line = sent
                .lines()
                .find(|line| line.to_ascii_lowercase().starts_with(name))
                .unwrap();
            let value = line.split_once(':').unwrap().1.trim();
            require(!request.all(name).contains(&value), "a field came through")?;
        }
        Ok(())
    }

    fn statuses(&self) -> Vec<u16> {
        self.answers.iter().map(Message::status).collect()
    }
}

fn require(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn replaced(octets: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::new();
    let mut rest = octets;
    while let Some((first, after)) = rest.split_first() {
        let (put, left) = rest
            .strip_prefix(from)
            .map_or((std::slice::from_ref(first), after), |after| (to, after));
        replaced.extend_from_slice(put);
        rest = left;
    }
    replaced
}
