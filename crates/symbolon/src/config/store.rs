//! Where entries and revocations are kept.

use std::path::Path;

use toml_span::{Span, Spanned};

use super::table::Table;
use super::values::{self, one_of};
use crate::store::Config;

#[cfg(feature = "redis")]
mod redis;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memory,
    #[cfg(feature = "disk")]
    Disk,
    #[cfg(feature = "redis")]
    Redis,
}

/// What of the file a store has to do with besides its table.
pub(super) struct Surroundings<'a> {
    /// The folder for what must outlive the process.
    pub(super) data: Option<&'a Path>,
    /// Where the one role stands that the file names without the other.
    pub(super) only_role: Option<Span>,
    /// Whether a deployment secret is written.
    pub(super) has_secret: bool,
}

#[cfg_attr(
    not(feature = "disk"),
    allow(unused_variables, reason = "a folder is the disk store's alone")
)]
pub(super) fn read(table: &mut Table<'_, '_>, around: &Surroundings<'_>) -> Option<Config> {
    let at = table.place("kind");
    let kind = table.or("kind", Kind::Memory, one_of(KINDS, &[]));
    let kind = kind.map(Spanned::take);
    if let Some(kind) = kind {
        kind.refuse_others(table);
        kind.fits(table, at, around);
    }
    let max_bytes = table.or("max_bytes", DEFAULT_BYTES, values::size);
    let folder = table.or("folder", None, |value| values::path(value).map(Some));
    #[cfg(feature = "redis")]
    let redis = redis::read(table, kind == Some(Kind::Redis));
    match kind? {
        Kind::Memory => Some(Config::Memory {
            max_bytes: max_bytes?.value,
        }),
        #[cfg(feature = "disk")]
        Kind::Disk => Some(Config::Disk {
            folder: match folder?.value {
                Some(name) => table.reader.resolve(&name),
                None => around.data?.join("store"),
            },
            max_bytes: u64::try_from(max_bytes?.value).unwrap_or(u64::MAX),
        }),
        #[cfg(feature = "redis")]
        Kind::Redis => Some(Config::Redis(Box::new(redis?))),
    }
}

impl Kind {
    fn name(self) -> &'static str {
        let name = KINDS.iter().find(|(_, kind)| *kind == self);
        name.map_or("", |(name, _)| name)
    }

    /// Notes the settings of other kinds.
    fn refuse_others(self, table: &mut Table<'_, '_>) {
        let is_disk = self.name() == "disk";
        if !is_disk {
            table.refuse("folder", "leave it out: it is for kind = \"disk\"");
        }
        #[cfg(feature = "redis")]
        if self == Self::Redis {
            let reason = "leave it out: the server's own `maxmemory` says how much it keeps";
            table.refuse("max_bytes", reason);
        } else {
            for key in redis::KEYS {
                table.refuse(key, "leave it out: it is for kind = \"redis\"");
            }
        }
    }

    /// Notes what the rest of the file has to have or not for a store of that kind.
    fn fits(self, table: &Table<'_, '_>, at: Option<Span>, around: &Surroundings<'_>) {
        #[cfg(feature = "redis")]
        if self == Self::Redis {
            // Where one role runs alone, that is said there.
            if !around.has_secret && around.only_role.is_none() {
                let reason = "write `secret`: every process on this store needs the same deployment secret";
                table.note(at.unwrap_or(table.at), reason);
            }
            return;
        }
        if let Some(at) = around.only_role {
            let name = self.name();
            let reason = format!(
                "write the other role as well: the {name} store serves a process that has both roles"
            );
            table.note(at, reason);
        }
    }
}

const KINDS: &[(&str, Kind)] = &[
    ("memory", Kind::Memory),
    #[cfg(feature = "disk")]
    ("disk", Kind::Disk),
    #[cfg(feature = "redis")]
    ("redis", Kind::Redis),
];
const DEFAULT_BYTES: usize = 512 << 20;
