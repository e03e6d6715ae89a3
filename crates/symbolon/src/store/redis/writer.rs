//! Writes that wait for replicas. What arrives together goes out together, with one wait for all, on one connection
//! that nothing else uses: `WAIT` counts for the connection that wrote, and blocks what stands behind it.

use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connection::within;
use super::link::{Link, NoAnswer, Up};
use super::reply::{STRANGE, TOO_FEW};
use crate::store::StoreError;

/// What is written, one batch after the other.
pub(super) struct Writer {
    waiting: mpsc::Sender<Write>,
    task: JoinHandle<()>,
}

/// What makes a write one that is acknowledged.
#[derive(Clone, Copy)]
pub(super) struct Acknowledgement {
    /// So many replicas have it.
    pub(super) replicas: usize,
    /// And all of them, and the primary, have it on disk.
    pub(super) fsync: bool,
}

struct Write {
    commands: Vec<Cmd>,
    /// When it is not worth beginning any more.
    until: Instant,
    answer: oneshot::Sender<Result<Vec<Value>, StoreError>>,
}

/// How long replicas may take.
pub(super) const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(1);
/// How much longer than that the answer may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// Most writes that wait for the batches before theirs.
const WAITING: usize = 4096;
/// And how long they do: a replica that is gone costs each batch its second.
const BEGUN_WITHIN: Duration = Duration::from_secs(2);
/// Most writes of one batch.
const BATCH: usize = 256;

impl Writer {
    pub(super) fn start(link: Link, acknowledgement: Acknowledgement) -> Self {
        let (sender, waiting) = mpsc::channel(WAITING);
        let task = tokio::spawn(run(link, acknowledgement, waiting));
        Self {
            waiting: sender,
            task,
        }
    }

    /// Does the commands one after the other, nothing of this writer's between them; an answer each, refusals among
    /// them, once all of it is acknowledged.
    pub(super) async fn write(&self, commands: Vec<Cmd>) -> Result<Vec<Value>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let write = Write {
            commands,
            until: within(BEGUN_WITHIN),
            answer,
        };
        let sent = self.waiting.try_send(write);
        sent.map_err(|_| StoreError::Unavailable("more writes wait for it than may"))?;
        let ended = StoreError::Unavailable("its writer has ended");
        answered.await.unwrap_or(Err(ended))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(link: Link, acknowledgement: Acknowledgement, mut waiting: mpsc::Receiver<Write>) {
    let mut writes = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut writes, BATCH).await > 0 {
        let now = within(Duration::ZERO);
        let (batch, late): (Vec<_>, Vec<_>) = writes.drain(..).partition(|write| write.until > now);
        for write in late {
            // Whoever asked may have gone.
            let _ = write.answer.send(Err(TOO_LONG));
        }
        if batch.is_empty() {
            continue;
        }
        let outcome = write(&link, acknowledgement, &batch).await;
        let mut answers = outcome.map(Vec::into_iter);
        for Write { commands, answer, .. } in batch {
            let outcome = match &mut answers {
                Ok(answers) => Ok(answers.by_ref().take(commands.len()).collect()),
                Err(error) => Err(error.clone()),
            };
            // Whoever asked may have gone.
            let _ = answer.send(outcome);
        }
    }
}

const TOO_LONG: StoreError = StoreError::Unavailable("what is written before it takes too long");

/// Sends a batch and its wait, on one connection; never the one on this and the other on the next.
async fn write(
    link: &Link,
    acknowledgement: Acknowledgement,
    batch: &[Write],
) -> Result<Vec<Value>, StoreError> {
    let mut commands = Pipeline::new();
    for command in batch.iter().flat_map(|write| &write.commands) {
        commands.add_command(command.clone());
    }
    let wait = acknowledgement.wait();
    if let Some(wait) = &wait {
        commands.add_command(wait.clone());
    }
    let mut answers = send(&*link.up(within(ANSWERED_WITHIN)).await?, &commands).await;
    if answers == Err(NoAnswer::Lost) {
        // That a connection was lost while nothing was written shows only now. All of it is sent once more: what is
        // written here may be written twice.
        answers = send(&*link.up(within(ANSWERED_WITHIN)).await?, &commands).await;
    }
    let mut answers = answers?;
    if answers.len() != commands.len() {
        return Err(STRANGE);
    }
    if wait.is_some() {
        let answer = answers.pop();
        if !answer.is_some_and(|answer| acknowledgement.is_met_by(&answer)) {
            return Err(TOO_FEW);
        }
    }
    Ok(answers)
}

async fn send(up: &Up, commands: &Pipeline) -> Result<Vec<Value>, NoAnswer> {
    let until = within(ACKNOWLEDGED_WITHIN + ANSWERED_WITHIN);
    // What is still under way there would hold up what comes next.
    up.send(commands, until).await.inspect_err(|_| up.give_up())
}

impl Acknowledgement {
    fn wait(self) -> Option<Cmd> {
        let mut command = match (self.fsync, self.replicas) {
            (true, _) => {
                let mut command = redis::cmd("WAITAOF");
                command.arg(1);
                command
            }
            (false, 0) => return None,
            (false, _) => redis::cmd("WAIT"),
        };
        command
            .arg(self.replicas)
            .arg(ACKNOWLEDGED_WITHIN.as_millis().to_string());
        Some(command)
    }

    fn is_met_by(self, answer: &Value) -> bool {
        let suffice = |count: &Value| matches!(count, Value::Int(count) if usize::try_from(*count).is_ok_and(|count| count >= self.replicas));
        match answer {
            Value::Array(counts) if self.fsync => {
                matches!(counts[..], [Value::Int(1), ref replicas] if suffice(replicas))
            }
            count => !self.fsync && suffice(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_enough_replicas_acknowledge() {
        let two = Acknowledgement {
            replicas: 2,
            fsync: false,
        };
        assert!(two.is_met_by(&Value::Int(2)) && two.is_met_by(&Value::Int(3)));
        assert!(
            !two.is_met_by(&Value::Int(1)) && !two.is_met_by(&Value::Int(-1)) && !two.is_met_by(&Value::Nil)
        );
        let on_disk = Acknowledgement {
            replicas: 1,
            fsync: true,
        };
        let counts = |local, replicas| Value::Array(vec![Value::Int(local), Value::Int(replicas)]);
        assert!(on_disk.is_met_by(&counts(1, 1)));
        assert!(!on_disk.is_met_by(&counts(0, 1)) && !on_disk.is_met_by(&counts(1, 0)));
        assert!(!on_disk.is_met_by(&Value::Int(2)));
    }
}
