//! What stands between a store and its server, where a test needs a network of its own making.

use std::sync::Arc;
use std::time::Duration;

use symbolon::store::redis::Address;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What it does with what passes.
#[derive(Clone)]
pub enum Way {
    /// Lets so many octets of answers through a second.
    Slow(u32),
    /// Holds back the first question with that word in it, says so, and waits to be told to go on.
    Held(&'static str, Arc<Notify>, Arc<Notify>),
}

/// Stands before the server on that port.
pub async fn relay(port: u16, way: Way) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address {
        host: "127.0.0.1".into(),
        port: listener.local_addr().unwrap().port(),
        tls: false,
    };
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (questions, answers) = client.into_split();
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                continue;
            };
            let (from_server, to_server) = server.into_split();
            tokio::spawn(pass(questions, to_server, way.clone(), true));
            tokio::spawn(pass(from_server, answers, way.clone(), false));
        }
    });
    address
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    are_questions: bool,
) {
    let mut octets = vec![0; 16 * 1024];
    let mut was_held = false;
    while let Ok(count @ 1..) = from.read(&mut octets).await {
        let octets = &octets[..count];
        match &way {
            Way::Slow(a_second) if !are_questions => {
                tokio::time::sleep(Duration::from_secs(1) * u32::try_from(count).unwrap() / *a_second).await;
            }
            Way::Held(word, seen, go_on) if are_questions && !was_held && has(octets, word) => {
                was_held = true;
                seen.notify_one();
                go_on.notified().await;
            }
            Way::Slow(_) | Way::Held(..) => {}
        }
        if to.write_all(octets).await.is_err() {
            break;
        }
    }
}

fn has(octets: &[u8], word: &str) -> bool {
    octets.windows(word.len()).any(|window| window == word.as_bytes())
}
