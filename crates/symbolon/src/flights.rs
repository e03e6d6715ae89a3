//! One look-up that all share who miss the same meanwhile.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use crate::sync::Arc;

/// The look-ups that are under way.
pub(crate) struct Flights<K: Eq + Hash + Copy, T: Clone>(Mutex<HashMap<K, Flight<T>>>);

/// One of them.
struct Flight<T> {
    outcome: Arc<OnceCell<T>>,
    /// How many wait for it, the one who looks up among them.
    waiting: usize,
}

/// What came of a look-up.
pub(crate) struct Landed<T> {
    /// The same for all who shared it.
    pub(crate) outcome: T,
    /// Whether it had begun before it was asked for: what was found then may have changed since.
    pub(crate) joined: bool,
}

/// Somebody's part in a look-up. Whoever comes after it is over begins another.
struct Part<'a, K: Eq + Hash + Copy, T: Clone> {
    flights: &'a Flights<K, T>,
    key: K,
    outcome: Arc<OnceCell<T>>,
}

impl<K: Eq + Hash + Copy, T: Clone> Flights<K, T> {
    /// Looks up, or waits for another who does so for the same key. If that one goes away, the next goes on in its
    /// place.
    pub(crate) async fn join(&self, key: K, look_up: impl AsyncFnOnce() -> T) -> Landed<T> {
        let part = self.part(key);
        let mut joined = true;
        let outcome = part.outcome.get_or_init(|| {
            joined = false;
            look_up()
        });
        let outcome = outcome.await.clone();
        Landed { outcome, joined }
    }

    fn part(&self, key: K) -> Part<'_, K, T> {
        let mut flights = self.all();
        let flight = flights.entry(key).or_insert_with(|| Flight {
            outcome: Arc::default(),
            waiting: 0,
        });
        flight.waiting += 1;
        Part {
            flights: self,
            key,
            outcome: flight.outcome.clone(),
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<K, Flight<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Copy, T: Clone> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Copy, T: Clone> Drop for Part<'_, K, T> {
    fn drop(&mut self) {
        let mut flights = self.flights.all();
        let flight = flights.get_mut(&self.key);
        let Some(flight) = flight.filter(|flight| Arc::ptr_eq(&flight.outcome, &self.outcome)) else {
            return;
        };
        flight.waiting -= 1;
        // One who only waited and goes away ends nothing for the others.
        if flight.waiting == 0 || self.outcome.initialized() {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{Future, pending};
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    type Answers = Flights<u8, Result<(), &'static str>>;

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn those_who_miss_the_same_share_a_look_up() {
        let flights = Answers::default();
        let (look_ups, answered) = (Cell::new(0), tokio::sync::Notify::new());
        let look_up = async || {
            look_ups.set(look_ups.get() + 1);
            answered.notified().await;
            Err("away")
        };
        let (mut first, mut second) = (pin!(flights.join(1, look_up)), pin!(flights.join(1, look_up)));
        let mut third = pin!(flights.join(2, look_up));
        assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none());
        assert!(poll(third.as_mut()).is_none());
        assert_eq!(look_ups.get(), 2, "one for each");
        answered.notify_one();
        let (first, second) = (poll(first).unwrap(), poll(second).unwrap());
        assert_eq!((first.outcome, first.joined), (Err("away"), false));
        assert_eq!((second.outcome, second.joined), (Err("away"), true));

        let mut later = pin!(flights.join(1, look_up));
        assert!(poll(later.as_mut()).is_none());
        assert_eq!(
            look_ups.get(),
            3,
            "what came of a look-up is for those who waited"
        );
    }

    #[test]
    fn if_the_first_goes_away_the_next_goes_on() {
        let flights = Answers::default();
        let mut first = Box::pin(flights.join(1, async || pending().await));
        let mut second = pin!(flights.join(1, async || Err("found out")));
        assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none());
        drop(first);
        let second = poll(second).unwrap();
        assert_eq!((second.outcome, second.joined), (Err("found out"), false));
        assert!(flights.all().is_empty());
    }
    // IN-09
    #[test]
    fn one_who_waits_and_goes_away_ends_nothing() {
        let flights = Answers::default();
        let look_ups = Cell::new(0);
        let look_up = async || {
            look_ups.set(look_ups.get() + 1);
            pending().await
        };
        let mut first = Box::pin(flights.join(1, look_up));
        let mut second = Box::pin(flights.join(1, look_up));
        assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none());
        drop(second);
        let mut third = Box::pin(flights.join(1, look_up));
        assert!(poll(third.as_mut()).is_none());
        assert_eq!(look_ups.get(), 1, "the first still looks up");
        drop((first, third));
        assert!(flights.all().is_empty());
    }
}
