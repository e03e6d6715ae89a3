//! Locks and atomics of what is raced: the standard library's, or with feature `shuttle`, for tests alone, those of a
//! scheduler that tries the orders in which threads can go.

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::sync::{
    Arc, RwLock, RwLockReadGuard,
    atomic::{AtomicU64, Ordering},
};
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::sync::{
    Arc, RwLock, RwLockReadGuard,
    atomic::{AtomicU64, Ordering},
};
