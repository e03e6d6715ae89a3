//! HTTP/1.1 over plain sockets, octet by octet: what a library would mend or hide stays visible.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::canary;

/// One end of a connection.
pub struct RawConnection {
    stream: Box<dyn Stream>,
    /// Read, and not taken yet.
    unread: Vec<u8>,
    /// All that was ever read.
    received: Arc<Mutex<Vec<u8>>>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A request or an answer.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its first line.
    pub line: String,
    /// Its fields, names in lower case, in the order of the wire.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body came to the end that its framing promised.
    pub is_whole: bool,
}

/// Longer than anything here takes, and shorter than the ten seconds that a kept-alive connection may rest.
const PATIENCE: Duration = Duration::from_secs(5);

impl RawConnection {
    /// A client's end.
    pub async fn connect(at: SocketAddr) -> Self {
        Self::new(TcpStream::connect(at).await.unwrap(), Arc::default())
    }

    /// Either end of a connection that is there; whatever comes is kept in `received` as well.
    pub fn new(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        received: Arc<Mutex<Vec<u8>>>,
    ) -> Self {
        Self {
            stream: Box::new(stream),
            unread: Vec::new(),
            received,
        }
    }

    /// Sends these octets, or as many as the other end takes.
    pub async fn send(&mut self, octets: impl AsRef<[u8]>) {
        // Whoever refuses a message need not read all of it.
        let _ = within(self.stream.write_all(octets.as_ref())).await;
        let _ = within(self.stream.flush()).await;
    }

    /// Sends these octets; false once the other end takes no more.
    pub async fn send_some(&mut self, octets: &[u8]) -> bool {
        self.stream.write_all(octets).await.is_ok()
    }

    /// The next answer. Fails if none comes soon.
    pub async fn answer(&mut self) -> Message {
        within(self.message()).await.expect("an answer")
    }

    /// The next message with its body; none if the other end closed before it began.
    pub async fn message(&mut self) -> Option<Message> {
        let mut message = self.head().await?;
        match message.framing() {
            Framing::None => {}
            Framing::Length(length) => self.take_body(&mut message, length).await,
            Framing::Chunked => self.take_chunks(&mut message).await,
            Framing::Close => {
                while self.fill().await {}
                message.body = std::mem::take(&mut self.unread);
            }
        }
        Some(message)
    }

    /// The next message as far as its empty line.
    pub async fn head(&mut self) -> Option<Message> {
        let end = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill().await {
                assert!(self.unread.is_empty(), "broken off amid a header");
                return None;
            }
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.trim_end().split("\r\n");
        let message = Message {
            line: lines.next().unwrap().to_owned(),
            fields: lines.map(|line| field(line).unwrap()).collect(),
            body: Vec::new(),
            is_whole: true,
        };
        for authorization in message.all("authorization") {
            canary(authorization.rsplit(' ').next().unwrap());
        }
        Some(message)
    }

    /// The data of the next chunk, empty for the last one; none if it broke off before its end.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.line().await?, 16).expect("the size of a chunk");
        if size == 0 {
            return Some(Vec::new());
        }
        while self.unread.len() < size + 2 {
            if !self.fill().await {
                return None;
            }
        }
        let data = self.unread.drain(..size).collect();
        assert!(self.unread.drain(..2).eq(*b"\r\n"), "the end of a chunk");
        Some(data)
    }

    /// Whether the other end closes now, and sends nothing more before it does.
    pub async fn is_closed(&mut self) -> bool {
        let end = tokio::time::timeout(PATIENCE / 2, self.fill()).await;
        self.unread.is_empty() && end == Ok(false)
    }

    async fn take_body(&mut self, message: &mut Message, length: usize) {
        while self.unread.len() < length {
            if !self.fill().await {
                message.is_whole = false;
                break;
            }
        }
        let there = self.unread.len().min(length);
        message.body = self.unread.drain(..there).collect();
    }

    async fn take_chunks(&mut self, message: &mut Message) {
        message.is_whole = false;
        while let Some(data) = self.chunk().await {
            message.body.extend_from_slice(&data);
            if data.is_empty() {
                return self.take_trailers(message).await;
            }
        }
    }

    async fn take_trailers(&mut self, message: &mut Message) {
        while let Some(line) = self.line().await {
            let Some(trailer) = field(&line) else {
                message.is_whole = true;
                return;
            };
            message.fields.push(trailer);
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Reads on; false at the end, however it came.
    async fn fill(&mut self) -> bool {
        let mut part = vec![0; 16 * 1024];
        match self.stream.read(&mut part).await {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.unread.extend_from_slice(&part[..length]);
                self.received.lock().unwrap().extend_from_slice(&part[..length]);
                true
            }
        }
    }
}

enum Framing {
    None,
    Length(usize),
    Chunked,
    Close,
}

impl Message {
    /// The status of an answer.
    pub fn status(&self) -> u16 {
        self.line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The target of a request.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }

    /// All values of a field, as they stand.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(field, _)| field == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The one value of a field, empty if it is not there.
    pub fn field(&self, name: &str) -> &str {
        let values = self.all(name);
        assert!(values.len() <= 1, "{name} is there more than once");
        values.first().copied().unwrap_or_default()
    }

    /// The `error` member of a JSON body; empty if it is none.
    pub fn error(&self) -> String {
        serde_json::from_slice::<serde_json::Value>(&self.body)
            .ok()
            .and_then(|body| Some(body["error"].as_str()?.to_owned()))
            .unwrap_or_default()
    }

    fn framing(&self) -> Framing {
        let is_answer = self.line.starts_with("HTTP/");
        if is_answer && matches!(self.status(), 100..=199 | 204 | 304) {
            Framing::None
        } else if self.field("transfer-encoding").eq_ignore_ascii_case("chunked") {
            Framing::Chunked
        } else if let Ok(length) = self.field("content-length").parse() {
            Framing::Length(length)
        } else if is_answer {
            Framing::Close
        } else {
            Framing::None
        }
    }
}

/// What it comes to, which must not take for ever.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it takes too long")
}

/// Waits until it holds. Fails if it never does.
pub async fn eventually(mut holds: impl FnMut() -> bool, what: &str) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_ascii_lowercase(), value.trim().to_owned()))
}

fn find(octets: &[u8], wanted: &[u8]) -> Option<usize> {
    octets.windows(wanted.len()).position(|window| window == wanted)
}
