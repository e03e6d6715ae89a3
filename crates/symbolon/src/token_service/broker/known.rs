//! What is learnt from the server by asking: once, and by one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

/// What is known, once somebody has asked.
pub(super) struct Known<T> {
    value: ArcSwapOption<T>,
    /// Held by whoever asks.
    asking: tokio::sync::Mutex<()>,
    /// How often somebody has asked to the end.
    attempts: AtomicU64,
}

impl<T> Known<T> {
    /// Nothing.
    pub(super) fn nothing() -> Self {
        Self {
            value: ArcSwapOption::empty(),
            asking: tokio::sync::Mutex::default(),
            attempts: AtomicU64::new(0),
        }
    }

    /// What is known now.
    pub(super) fn now(&self) -> Option<Arc<T>> {
        self.value.load_full()
    }

    /// Takes something for known from now on.
    pub(super) fn set(&self, value: Arc<T>) {
        self.value.store(Some(value));
    }

    /// What is known, or what comes of asking. Who finds somebody asking shares what comes of that, also if it is
    /// nothing: asked by each in turn, a server that answers nobody would hold each of them longer than the last.
    pub(super) async fn or_ask(&self, ask: impl Future<Output = Option<Arc<T>>>) -> Option<Arc<T>> {
        if let Some(known) = self.now() {
            return Some(known);
        }
        let attempts = self.attempts.load(Ordering::Acquire);
        let _alone = self.asking.lock().await;
        if self.attempts.load(Ordering::Acquire) != attempts {
            return self.now();
        }
        let learnt = ask.await;
        if let Some(learnt) = &learnt {
            self.set(learnt.clone());
        }
        self.attempts.fetch_add(1, Ordering::AcqRel);
        learnt
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use tokio::sync::oneshot;

    use super::*;

    type Asking<'a> = Pin<Box<dyn Future<Output = Option<Arc<u8>>> + 'a>>;

    /// Somebody who asks and hears what the test says.
    fn asks(known: &Known<u8>) -> (oneshot::Sender<Option<Arc<u8>>>, Asking<'_>) {
        let (say, hear) = oneshot::channel();
        (say, Box::pin(known.or_ask(async { hear.await.unwrap() })))
    }

    fn is_waiting(asking: &mut Asking<'_>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        matches!(asking.as_mut().poll(&mut context), Poll::Pending)
    }

    #[tokio::test]
    async fn who_waits_shares_what_comes_of_one_attempt() {
        for answer in [None, Some(Arc::new(7))] {
            let known = Known::nothing();
            let (say, mut first) = asks(&known);
            let ((_, mut second), (_, mut third)) = (asks(&known), asks(&known));
            assert!(is_waiting(&mut first) && is_waiting(&mut second) && is_waiting(&mut third));
            say.send(answer.clone()).unwrap();
            assert_eq!(first.await, answer);
            assert_eq!(
                (second.await, third.await),
                (answer.clone(), answer),
                "neither has asked"
            );
        }
    }

    #[tokio::test]
    async fn who_comes_after_a_failure_asks_again_and_nobody_after_a_success() {
        let known = Known::nothing();
        assert_eq!(known.or_ask(async { None }).await, None);
        assert_eq!(known.or_ask(async { Some(Arc::new(7)) }).await, Some(Arc::new(7)));
        assert_eq!(known.or_ask(async { unreachable!() }).await, Some(Arc::new(7)));
        known.set(Arc::new(8));
        assert_eq!(known.now(), Some(Arc::new(8)));
    }

    #[tokio::test]
    async fn one_who_stops_asking_leaves_it_to_the_next() {
        let known = Known::nothing();
        let (_say, mut first) = asks(&known);
        let (say, mut second) = asks(&known);
        assert!(is_waiting(&mut first) && is_waiting(&mut second));
        drop(first);
        say.send(Some(Arc::new(7))).unwrap();
        assert_eq!(second.await, Some(Arc::new(7)));
    }
}
