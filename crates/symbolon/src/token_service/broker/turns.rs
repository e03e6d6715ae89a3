//! Requests that bring the same code or refresh token, one after the other.
//!
//! Of two that come at once the server lets one through and tells the other that its code was used. That is a sign of
//! theft, but only to one who knows by then what the first was given (RFC 6749 §4.1.2).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::store::LedgerKey;

/// Who has the turn, of those that bring the same.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<LedgerKey, Arc<tokio::sync::Mutex<()>>>>);

/// Until it is dropped, others that bring the same wait.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    key: LedgerKey,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for the turn.
    pub(super) async fn take(&self, key: LedgerKey) -> Turn<'_> {
        let queue = Arc::clone(self.queues().entry(key).or_default());
        // Made first, so that one who stops waiting leaves nothing behind.
        let mut turn = Turn {
            turns: self,
            key,
            guard: None,
        };
        turn.guard = Some(queue.lock_owned().await);
        turn
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<LedgerKey, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.guard = None;
        let mut queues = self.turns.queues();
        if queues
            .get(&self.key)
            .is_some_and(|queue| Arc::strong_count(queue) == 1)
        {
            queues.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_waits_and_another_does_not() {
        let turns = Turns::default();
        let first = turns.take([1; 32]).await;
        let other = turns.take([2; 32]).await;
        let mut second = Box::pin(turns.take([1; 32]));
        assert!(now(&mut second).is_none(), "it waits");
        drop(first);
        let second = second.await;
        assert_eq!(turns.queues().len(), 2);
        drop((second, other));
        assert!(turns.queues().is_empty(), "nothing is kept");
    }

    #[tokio::test]
    async fn who_stops_waiting_leaves_nothing_behind() {
        let turns = Turns::default();
        let first = turns.take([1; 32]).await;
        let mut second = Box::pin(turns.take([1; 32]));
        assert!(now(&mut second).is_none(), "it waits");
        drop(first);
        drop(second);
        assert!(turns.queues().is_empty());
    }

    /// What it comes to without waiting.
    fn now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
