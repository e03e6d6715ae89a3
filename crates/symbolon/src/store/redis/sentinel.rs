//! Sentinels, who know where the primary is.

use std::sync::Arc;
use std::time::Duration;

use redis::PushKind;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::connection::{Connector, Trouble, ask};
use super::{Address, reply};

/// Those who watch over one primary.
pub(super) struct Sentinels {
    asked: Arc<Asked>,
    /// Where one of them says that the primary is, as of when it last changed.
    heard: watch::Receiver<Option<Address>>,
    listener: JoinHandle<()>,
}

struct Asked {
    connector: Connector,
    master: String,
    sentinels: Vec<Address>,
}

/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// One that says nothing is asked so often, so that no message that was lost matters.
const ASK_EVERY: Duration = Duration::from_secs(1);

impl Sentinels {
    /// Begins to listen to them.
    pub(super) fn listen(connector: Connector, master: String, sentinels: Vec<Address>) -> Self {
        let asked = Arc::new(Asked {
            connector,
            master,
            sentinels,
        });
        let (tell, heard) = watch::channel(None);
        let listener = tokio::spawn(listen(asked.clone(), tell));
        Self {
            asked,
            heard,
            listener,
        }
    }

    /// Where the primary is, by the first of them who answers.
    pub(super) async fn master(&self) -> Result<Address, Trouble> {
        let mut asking = JoinSet::new();
        for sentinel in self.asked.sentinels.clone() {
            let asked = self.asked.clone();
            asking.spawn(async move { asked.one(&sentinel).await });
        }
        let mut trouble = Trouble::Away("no Sentinel is reached".into());
        while let Some(answer) = asking.join_next().await {
            match answer {
                Ok(Ok(address)) => return Ok(address),
                // One that knows no such primary says more than one that is away.
                Ok(Err(unfit @ Trouble::Unfit(_))) => trouble = unfit,
                Ok(Err(Trouble::Away(_))) | Err(_) => {}
            }
        }
        Err(trouble)
    }

    /// Ends when one of them tells of a change, and the primary is not there any more.
    pub(super) async fn switched(&self, from: &Address) {
        let mut heard = self.heard.clone();
        heard.mark_unchanged();
        loop {
            if heard.changed().await.is_err() {
                // Nobody listens any more: the process ends.
                return std::future::pending().await;
            }
            if heard.borrow_and_update().as_ref() != Some(from) {
                return;
            }
        }
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Asked {
    async fn one(&self, sentinel: &Address) -> Result<Address, Trouble> {
        let asking = async {
            let connection = self.connector.connect(sentinel).await?;
            self.ask(&connection, sentinel).await
        };
        let answer = tokio::time::timeout(PATIENCE, asking).await;
        let answer = answer.unwrap_or_else(|_| Err(Trouble::Away("it does not answer".into())));
        answer.map_err(|trouble| match trouble {
            Trouble::Unfit(why) => Trouble::Unfit(format!("Sentinel {sentinel}: {why}")),
            away @ Trouble::Away(_) => away,
        })
    }

    async fn ask(
        &self,
        connection: &redis::aio::MultiplexedConnection,
        sentinel: &Address,
    ) -> Result<Address, Trouble> {
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        let answer = ask(connection, command).await?;
        if answer == redis::Value::Nil {
            return Err(Trouble::Unfit(
                "it watches over no primary of that name: write `master` as its own file has it".into(),
            ));
        }
        let parts = reply::list(answer).unwrap_or_default();
        let mut parts = parts.into_iter().map(reply::text);
        match (
            parts.next().flatten(),
            parts.next().flatten().and_then(|port| port.parse().ok()),
        ) {
            (Some(host), Some(port)) => Ok(Address {
                host,
                port,
                tls: sentinel.tls,
            }),
            _ => Err(Trouble::Away("it answers something else".into())),
        }
    }

    /// Listens to one for as long as it answers.
    async fn listen(&self, sentinel: &Address, tell: &watch::Sender<Option<Address>>) -> Result<(), Trouble> {
        let (sender, mut said) = mpsc::unbounded_channel();
        let mut connection = self.connector.listen(sentinel, sender).await?;
        let subscribed = tokio::time::timeout(PATIENCE, connection.subscribe("+switch-master")).await;
        subscribed.map_err(|_| Trouble::Away("it does not answer".into()))??;
        loop {
            let asked = tokio::time::timeout(PATIENCE, self.ask(&connection, sentinel)).await;
            let address = asked.map_err(|_| Trouble::Away("it does not answer".into()))??;
            tell.send_if_modified(|known| {
                let is_news = known.as_ref() != Some(&address);
                *known = Some(address);
                is_news
            });
            match tokio::time::timeout(ASK_EVERY, said.recv()).await {
                Ok(Some(push)) if push.kind == PushKind::Disconnection => return Ok(()),
                Ok(None) => return Ok(()),
                Ok(Some(_)) | Err(_) => {}
            }
        }
    }
}

async fn listen(asked: Arc<Asked>, tell: watch::Sender<Option<Address>>) {
    loop {
        for sentinel in &asked.sentinels {
            // Whether any of them is reached is said where the primary is looked for.
            let _ = asked.listen(sentinel, &tell).await;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}
