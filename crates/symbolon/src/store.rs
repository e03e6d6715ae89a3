//! SEAM.

/// Which store.
#[derive(Clone, Debug)]
pub enum Config {
    /// In this process; gone with it.
    Memory {
        /// Octets of entries and tombstones before it refuses more.
        max_bytes: usize,
    },
}
