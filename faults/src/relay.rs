//! A fault proxy.
