//! Files that their owner alone may use: keys, secrets, operators' tokens (OP-03).

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::unistd::geteuid;
use symbolon_core::{base64url, random};
use zeroize::Zeroizing;

/// Why such a file is not read.
#[derive(Debug)]
pub enum ReadError {
    /// It cannot be read at all.
    Io(io::Error),
    /// Others than its owner may use it: what is in it may be theirs, or known to them.
    Shared,
    /// Its owner is another user than this process's.
    Foreign,
}

/// The text of a file that nobody but its owner may use, who is the user of this process.
pub fn read(path: &Path) -> Result<Zeroizing<String>, ReadError> {
    let mut file = File::open(path)?;
    check(&file.metadata()?)?;
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Whether a file or folder is for the user of this process alone.
pub fn check(metadata: &Metadata) -> Result<(), ReadError> {
    if !may_own(metadata.uid(), geteuid().as_raw()) {
        return Err(ReadError::Foreign);
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(ReadError::Shared);
    }
    Ok(())
}

/// Writes a new file that its owner alone may use, whole or not at all. Folders that are not there are made so too.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // A name of its own: what a crash left behind, or another process is writing, is in nobody's way.
    let unfinished = path.with_extension(base64url::encode(&random::<12>()));
    let written = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        // A link fails where something is already; a rename would replace what another process has just made.
        fs::hard_link(&unfinished, path)
    })();
    let _ = fs::remove_file(&unfinished);
    written?;
    File::open(folder)?.sync_all()
}

/// Writes a file that its owner alone may use, over the one that is there, whole or not at all.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension(base64url::encode(&random::<12>()));
    write(&unfinished, content)?;
    let renamed = fs::rename(&unfinished, path);
    if renamed.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    renamed
}

/// Whom a process of that user believes. The superuser may read and write everything in any case; and if it is the
/// superuser's process, nobody else.
fn may_own(owner: u32, user: u32) -> bool {
    owner == user || owner == 0
}

impl ReadError {
    /// Whether there is no such file.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Shared => f.write_str("others can read it (chmod 600)"),
            Self::Foreign => f.write_str("it is another user's than this process's (chown)"),
        }
    }
}

impl std::error::Error for ReadError {}

#[cfg(test)]
mod tests {
    use super::*;

    // OP-03
    #[test]
    fn a_file_is_its_owners_alone_or_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/on/the/way");
        assert!(read(&path).unwrap_err().is_missing());
        write(&path, b"secret").unwrap();
        let bits = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((bits(&path), bits(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(*read(&path).unwrap(), "secret");

        for mode in [0o640, 0o604, 0o620, 0o610, 0o700 | 0o7] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read(&path), Err(ReadError::Shared)), "{mode:o}");
        }
    }

    // OP-03
    #[test]
    fn another_users_file_is_not_read() {
        assert!(may_own(1000, 1000) && may_own(0, 1000) && may_own(0, 0));
        assert!(!may_own(1001, 1000) && !may_own(1000, 0));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write(&path, b"secret").unwrap();
        // Only the superuser gives files away.
        if std::os::unix::fs::chown(&path, Some(65_534), None).is_ok() {
            assert!(matches!(read(&path), Err(ReadError::Foreign)));
        }
    }

    #[test]
    fn what_is_there_is_not_replaced_and_nothing_unfinished_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write(&path, b"first").unwrap();
        let again = write(&path, b"second").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(*read(&path).unwrap(), "first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
