//! The keys that a token service signs with, one after the other (TS-14).
//!
//! A key that is to follow stands in a file of its own. It is published from when that file is found, and signs when
//! everybody who keeps the JWK Set has had the time to ask for it again. That it signs is then written into its name,
//! so that a restart changes nothing. The key before it stays published until the last of its tokens has ended.
//!
//! All of that holds across algorithms as well: where the settings name another one than the last key has, a key of
//! that algorithm is made to follow.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use symbolon_core::{Algorithm, JwkSet, Provenance, SigningKey, UnixTime};

use super::{KeyFileError, key_file, key_in, key_text, read_key};
use crate::clock::Clock;
use crate::keys::{self, Issuers, KeySource};
use crate::private_file;

/// How long a key is published before it signs: longer than anybody keeps a JWK Set without asking again. That is a
/// minute by our own word, and ten for a proxy that does not listen to it.
pub const PUBLISHED_BEFORE_USE: Duration = Duration::from_secs(11 * 60);
/// How often a running token service looks for a key that is to follow.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How far clocks may differ.
const MARGIN: Duration = Duration::from_secs(120);

/// The signing keys of one issuer, in the data folder.
pub struct SigningKeys {
    data: PathBuf,
    issuer: keys::Config,
    algorithm: Algorithm,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
}

#[derive(Clone)]
struct Held {
    /// Each with when it began to sign, the last of them signing.
    used: Vec<(UnixTime, Arc<SigningKey>)>,
    /// The key that is to follow, and when.
    next: Option<(UnixTime, Arc<SigningKey>)>,
}

/// The algorithm of the key in the data folder that signs, if there is one.
pub fn signing_algorithm(data: &Path) -> Result<Option<Algorithm>, KeyFileError> {
    let files = used_files(data).map_err(|error| KeyFileError::new(data, error))?;
    Ok(files.last().map(|(_, algorithm, _)| *algorithm))
}

/// Makes the key that is to follow the one in the data folder. A token service that runs finds it there, if that is
/// the algorithm of its settings.
pub fn make_next_key(data: &Path, algorithm: Algorithm) -> Result<SigningKey, KeyFileError> {
    let path = next_file(data, algorithm);
    if signing_algorithm(data)?.is_none() {
        return Err(KeyFileError::new(
            &key_file(data, algorithm),
            "no key is there to follow",
        ));
    }
    let key = SigningKey::generate(algorithm).map_err(|error| KeyFileError::new(&path, error))?;
    let text = key_text(&key).map_err(|error| KeyFileError::new(&path, error))?;
    private_file::write(&path, text.as_bytes()).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::new(&path, "a key that is to follow is there already"),
        _ => KeyFileError::new(&path, error),
    })?;
    Ok(key)
}

impl SigningKeys {
    /// The keys in the data folder; the first is made if there is none, and one that is to follow if the last signs
    /// with another algorithm.
    pub fn open(
        data: &Path,
        issuer: &keys::Config,
        algorithm: Algorithm,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeyFileError> {
        match signing_algorithm(data)? {
            None => drop(key_in(data, algorithm)?),
            Some(last) if last != algorithm && !is_there(&next_file(data, algorithm)) => {
                make_next_key(data, algorithm)?;
            }
            Some(_) => {}
        }
        let nothing = Held {
            used: Vec::new(),
            next: None,
        };
        let keys = Self {
            data: data.to_owned(),
            issuer: issuer.clone(),
            algorithm,
            clock,
            held: Mutex::new(nothing),
        };
        keys.look()?;
        Ok(keys)
    }

    /// The key to sign with now.
    pub fn current(&self) -> Option<Arc<SigningKey>> {
        let mut held = self.held();
        let now = self.clock.now();
        if let Some((from, key)) = held.next.clone()
            && from <= now
        {
            // The last one on disk signs: so also where that began under a clock that was ahead.
            let last = held
                .used
                .last()
                .map_or(now, |(from, _)| from.plus(Duration::from_secs(1)));
            let from = now.max(last);
            match self.keep_used(&key, from) {
                Ok(()) => {
                    tracing::info!(kid = key.kid(), "the next key signs from now on");
                    held.used.push((from, key));
                    held.next = None;
                }
                Err(error) => {
                    // Without the note a restart would sign with the old key again.
                    tracing::error!(%error, "the next key cannot be used yet");
                    held.next = Some((now.plus(LOOK_EVERY), key));
                }
            }
        }
        held.used.last().map(|(_, key)| Arc::clone(key))
    }

    /// The JWK Set: every key that signs, is to, or has signed a token that may be alive.
    pub fn published(&self) -> Value {
        let held = self.held();
        let now = self.clock.now();
        // A key has signed its last token when the next one began. That is known of none of those that began before
        // all time, so they go together.
        let ends = held.used.iter().skip(1).map(|(from, _)| {
            (*from != UnixTime::default()).then(|| from.plus(self.issuer.max_lifetime + MARGIN))
        });
        let ends: Vec<_> = ends.collect();
        let ended = ends.iter().rposition(|end| end.is_some_and(|end| end <= now));
        let keys = held
            .used
            .iter()
            .skip(ended.map_or(0, |last| last + 1))
            .chain(&held.next);
        json!({ "keys": keys.map(|(_, key)| key.public_jwk()).collect::<Vec<_>>() })
    }

    /// Looks for what has changed in the folder.
    pub fn look(&self) -> Result<(), KeyFileError> {
        let used = used_in(&self.data)?;
        let next = self.next_in(&used)?;
        let mut held = self.held();
        if used.is_empty() {
            let path = key_file(&self.data, self.algorithm);
            return Err(KeyFileError::new(
                &path,
                "it was taken away; what was read is used",
            ));
        }
        held.next = next.map(|next| match &held.next {
            Some((from, known)) if known.kid() == next.kid() => (*from, Arc::clone(known)),
            _ => {
                tracing::info!(kid = next.kid(), "a key that is to follow is published");
                (self.clock.now().plus(PUBLISHED_BEFORE_USE), Arc::new(next))
            }
        });
        held.used = used;
        Ok(())
    }

    /// Follows the folder for as long as the process lives, and tells `issuers` of every change.
    pub async fn keep(self: Arc<Self>, issuers: Arc<Issuers>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Err(error) = self.look() {
                tracing::error!(%error, "signing keys were not looked at");
            }
            issuers.refresh();
        }
    }

    /// The key that is to follow, unless it does already: its file may be left of a process that ended in between.
    fn next_in(&self, used: &[(UnixTime, Arc<SigningKey>)]) -> Result<Option<SigningKey>, KeyFileError> {
        let path = next_file(&self.data, self.algorithm);
        let text = match private_file::read(&path) {
            Ok(text) => text,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(KeyFileError::new(&path, error)),
        };
        let key = read_key(&path, &text, self.algorithm)?;
        if used.iter().any(|(_, other)| other.kid() == key.kid()) {
            let _ = fs::remove_file(&path);
            return Ok(None);
        }
        Ok(Some(key))
    }

    /// Notes on disk that a key signs, before it does.
    fn keep_used(&self, key: &SigningKey, from: UnixTime) -> Result<(), KeyFileError> {
        let path = used_file(&self.data, key.algorithm(), from);
        let text = key_text(key).map_err(|error| KeyFileError::new(&path, error))?;
        private_file::write(&path, text.as_bytes()).map_err(|error| KeyFileError::new(&path, error))?;
        let _ = fs::remove_file(next_file(&self.data, key.algorithm()));
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KeySource for SigningKeys {
    fn jwk_set(&self) -> Option<Arc<JwkSet>> {
        let text = self.published().to_string();
        JwkSet::parse(text.as_bytes(), &SigningKey::ALGORITHMS, Provenance::Configured)
            .ok()
            .map(Arc::new)
    }
}

/// The keys that have signed, by when they began. The first began before all time.
fn used_in(data: &Path) -> Result<Vec<(UnixTime, Arc<SigningKey>)>, KeyFileError> {
    let mut used = Vec::new();
    for (from, algorithm, path) in used_files(data).map_err(|error| KeyFileError::new(data, error))? {
        let text = private_file::read(&path).map_err(|error| KeyFileError::new(&path, error))?;
        used.push((from, Arc::new(read_key(&path, &text, algorithm)?)));
    }
    Ok(used)
}

fn used_files(data: &Path) -> io::Result<Vec<(UnixTime, Algorithm, PathBuf)>> {
    let folder = match fs::read_dir(data) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        folder => folder?,
    };
    let mut files = Vec::new();
    for file in folder {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some((from, algorithm)) = name.and_then(read_name) {
            files.push((from, algorithm, path));
        }
    }
    files.sort_by(|(from, _, path), (other_from, _, other)| (from, path).cmp(&(other_from, other)));
    Ok(files)
}

/// When the key in a file of that name began to sign, and its algorithm.
fn read_name(name: &str) -> Option<(UnixTime, Algorithm)> {
    let name = name.strip_prefix("signing-key-")?.strip_suffix(".json")?;
    let (algorithm, from) = match name.split_once('.') {
        Some((algorithm, seconds)) => (algorithm, UnixTime::from_secs(seconds.parse().ok()?)),
        None => (name, UnixTime::default()),
    };
    let algorithm = Algorithm::from_name(algorithm)?;
    SigningKey::ALGORITHMS
        .contains(&algorithm)
        .then_some((from, algorithm))
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn used_file(data: &Path, algorithm: Algorithm, from: UnixTime) -> PathBuf {
    data.join(format!("signing-key-{algorithm}.{}.json", from.as_secs()))
}

fn next_file(data: &Path, algorithm: Algorithm) -> PathBuf {
    data.join(format!("signing-key-{algorithm}.next.json"))
}

#[cfg(test)]
mod tests {
    use symbolon_core::{Profile, Rejection, TokenKind, UnverifiedJwt};
    use tempfile::TempDir;

    use super::*;
    use crate::clock::ManualClock;

    const ALGORITHM: Algorithm = Algorithm::Es256;
    const LIFETIME: Duration = Duration::from_secs(600);

    /// A data folder with one key, and a time.
    struct Folder {
        data: TempDir,
        clock: Arc<ManualClock>,
    }

    impl Folder {
        fn new() -> Self {
            Self {
                data: tempfile::tempdir().unwrap(),
                clock: Arc::new(ManualClock::at(UnixTime::from_secs(1_800_000_000))),
            }
        }

        /// The keys, as a process finds them at its start; and a gateway that follows them.
        fn start(&self) -> (Arc<SigningKeys>, Issuers) {
            let issuer = keys::Config {
                issuer: "https://id.example.com".into(),
                profile: Profile::RFC9068,
                algorithms: vec![ALGORITHM],
                tokens: TokenKind::Salted,
                introspection: None,
                max_lifetime: LIFETIME,
                keys: keys::Source::Mint,
            };
            let keys = SigningKeys::open(self.data.path(), &issuer, ALGORITHM, self.clock.clone()).unwrap();
            let keys = Arc::new(keys);
            let issuers = Issuers::new(vec![(issuer, keys.clone())]);
            (keys, issuers)
        }

        fn rotate(&self) -> String {
            make_next_key(self.data.path(), ALGORITHM)
                .unwrap()
                .kid()
                .to_owned()
        }

        fn pass(&self, seconds: u64) {
            self.clock.advance(Duration::from_secs(seconds));
        }

        fn files(&self) -> Vec<String> {
            let name = |file: io::Result<fs::DirEntry>| file.unwrap().file_name().into_string().unwrap();
            let mut names: Vec<_> = fs::read_dir(&self.data).unwrap().map(name).collect();
            names.sort();
            names
        }
    }

    fn signing(keys: &SigningKeys) -> String {
        keys.current().unwrap().kid().to_owned()
    }

    fn published(keys: &SigningKeys) -> Vec<String> {
        let set = keys.published();
        let keys = set["keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    fn token(keys: &SigningKeys) -> UnverifiedJwt {
        let now = keys.clock.now();
        let claims = json!({
            "iss": "https://id.example.com", "aud": "api", "sub": "app", "client_id": "app", "jti": "1",
            "iat": now.as_secs(), "exp": now.plus(LIFETIME).as_secs(),
        });
        keys.current().unwrap().sign("at+jwt", &claims).unwrap()
    }

    // TS-14
    #[tokio::test]
    async fn a_key_is_published_long_before_it_signs_and_until_its_last_token_has_ended() {
        let folder = Folder::new();
        let (keys, issuers) = folder.start();
        let old = signing(&keys);
        assert_eq!(published(&keys), std::slice::from_ref(&old));

        let new = folder.rotate();
        assert_eq!(
            published(&keys),
            std::slice::from_ref(&old),
            "nobody has looked yet"
        );
        keys.look().unwrap();
        issuers.refresh();
        let both = [old.clone(), new.clone()];
        assert_eq!((signing(&keys), published(&keys)), (old.clone(), both.to_vec()));

        folder.pass(PUBLISHED_BEFORE_USE.as_secs() - 1);
        keys.look().unwrap();
        assert_eq!(signing(&keys), old, "before");
        let of_old = token(&keys);
        folder.pass(1);
        assert_eq!(signing(&keys), new, "at the moment");
        assert_eq!(published(&keys), both);
        // Nothing was refreshed: the gateway has known the key all the while.
        let of_new = token(&keys);
        for jwt in [of_old.clone(), of_new.clone()] {
            assert!(issuers.verify(jwt, folder.clock.now()).await.is_ok());
        }

        folder.pass(LIFETIME.as_secs() - 2);
        keys.look().unwrap();
        issuers.refresh();
        assert!(
            issuers.verify(of_old.clone(), folder.clock.now()).await.is_ok(),
            "to its end"
        );
        folder.pass(1);
        let ended = issuers.verify(of_old, folder.clock.now()).await;
        assert!(matches!(ended, Err(Rejection::Expired)));
        folder.pass(MARGIN.as_secs());
        assert_eq!(published(&keys), both, "clocks may differ");
        folder.pass(1);
        assert_eq!((signing(&keys), published(&keys)), (new.clone(), vec![new]));
    }

    #[test]
    fn a_restart_changes_nothing() {
        let folder = Folder::new();
        let old = signing(&folder.start().0);
        let new = folder.rotate();
        // Before it has signed: whoever looked while the process was away saw neither, so the time begins anew.
        folder.pass(24 * 3600);
        let (keys, _) = folder.start();
        assert_eq!(published(&keys), [old.clone(), new.clone()]);
        folder.pass(PUBLISHED_BEFORE_USE.as_secs() - 1);
        assert_eq!(signing(&keys), old);
        folder.pass(1);
        assert_eq!(signing(&keys), new);
        // Since it has signed: at once, and the one before it as long as ever.
        let (keys, _) = folder.start();
        assert_eq!(
            (signing(&keys), published(&keys)),
            (new.clone(), vec![old, new.clone()])
        );
        folder.pass((LIFETIME + MARGIN).as_secs());
        assert_eq!(published(&folder.start().0), std::slice::from_ref(&new));
        // And again, with what is left in the folder.
        let third = folder.rotate();
        let (keys, _) = folder.start();
        folder.pass(PUBLISHED_BEFORE_USE.as_secs());
        assert_eq!(
            (signing(&keys), published(&keys)),
            (third.clone(), vec![new, third])
        );
        assert_eq!(
            folder.files(),
            [
                format!("signing-key-ES256.{}.json", 1_800_000_000 + 24 * 3600 + 660),
                format!(
                    "signing-key-ES256.{}.json",
                    1_800_000_000 + 24 * 3600 + 660 + 720 + 660
                ),
                "signing-key-ES256.json".to_owned(),
            ]
        );
    }

    // The clock was ahead when the last key began, and is put right: the next one follows all the same.
    #[test]
    fn a_key_follows_one_that_began_in_what_is_now_the_future() {
        let mut folder = Folder::new();
        folder.start();
        let rotate = |folder: &Folder| {
            let next = folder.rotate();
            let (keys, _) = folder.start();
            folder.pass(PUBLISHED_BEFORE_USE.as_secs());
            assert_eq!(signing(&keys), next);
            keys.look().unwrap();
            assert_eq!(signing(&keys), next, "it is the last on disk as well");
            next
        };
        let ahead = rotate(&folder);
        folder.clock = Arc::new(ManualClock::at(UnixTime::from_secs(1_700_000_000)));
        let next = rotate(&folder);
        assert_eq!(signing(&folder.start().0), next);
        assert!(
            published(&folder.start().0).contains(&ahead),
            "its tokens are alive"
        );
    }

    #[test]
    fn a_key_does_not_sign_before_that_is_on_disk() {
        let folder = Folder::new();
        let (keys, _) = folder.start();
        let (old, new) = (signing(&keys), folder.rotate());
        keys.look().unwrap();
        folder.pass(PUBLISHED_BEFORE_USE.as_secs());
        let in_the_way = used_file(folder.data.path(), ALGORITHM, folder.clock.now());
        fs::create_dir(&in_the_way).unwrap();
        assert_eq!(signing(&keys), old);
        folder.pass(LOOK_EVERY.as_secs() - 1);
        fs::remove_dir(&in_the_way).unwrap();
        assert_eq!(signing(&keys), old, "tried again in a minute");
        folder.pass(1);
        assert_eq!(signing(&keys), new);
    }

    #[test]
    fn what_a_process_left_half_done_is_finished() {
        let folder = Folder::new();
        let (keys, _) = folder.start();
        let new = folder.rotate();
        let next = next_file(folder.data.path(), ALGORITHM);
        fs::copy(
            &next,
            used_file(folder.data.path(), ALGORITHM, folder.clock.now()),
        )
        .unwrap();
        keys.look().unwrap();
        assert_eq!(signing(&keys), new);
        assert!(!next.exists());
    }

    #[test]
    fn what_is_wrong_in_the_folder_leaves_the_keys_as_they_were() {
        let folder = Folder::new();
        let (keys, _) = folder.start();
        let old = signing(&keys);
        let next = next_file(folder.data.path(), ALGORITHM);
        fs::write(&next, "{}").unwrap();
        assert!(keys.look().is_err());
        fs::remove_file(&next).unwrap();
        folder.rotate();
        keys.look().unwrap();
        assert_eq!(published(&keys).len(), 2);
        fs::remove_file(&next).unwrap();
        keys.look().unwrap();
        assert_eq!(published(&keys), std::slice::from_ref(&old), "taken back");
        fs::remove_file(key_file(folder.data.path(), ALGORITHM)).unwrap();
        assert!(keys.look().is_err());
        assert_eq!(signing(&keys), old);
    }

    // Of two first keys nobody can say which one has signed, so both stay until a third has long followed.
    #[test]
    fn first_keys_of_several_algorithms_are_all_published() {
        let folder = Folder::new();
        let other = folder.data.path().join("elsewhere");
        let eddsa = key_in(&other, Algorithm::EdDsa).unwrap();
        let (keys, _) = folder.start();
        let es256 = signing(&keys);
        fs::rename(
            key_file(&other, Algorithm::EdDsa),
            key_file(folder.data.path(), Algorithm::EdDsa),
        )
        .unwrap();
        fs::remove_dir(other).unwrap();
        let (keys, _) = folder.start();
        let first = [es256, eddsa.kid().to_owned()];
        let all = published(&keys);
        let next = all[2].clone();
        assert_eq!((&all[..2], signing(&keys)), (&first[..], first[1].clone()));
        folder.pass(PUBLISHED_BEFORE_USE.as_secs());
        assert_eq!(signing(&keys), next);
        folder.pass((LIFETIME + MARGIN).as_secs() - 1);
        assert_eq!(published(&keys)[..2], first);
        folder.pass(1);
        assert_eq!(published(&keys), [next]);
    }

    #[test]
    fn one_key_follows_another_at_a_time() {
        let folder = Folder::new();
        let nothing = make_next_key(folder.data.path(), ALGORITHM)
            .unwrap_err()
            .to_string();
        assert!(nothing.ends_with("no key is there to follow"), "{nothing}");
        folder.start();
        folder.rotate();
        let again = make_next_key(folder.data.path(), ALGORITHM)
            .unwrap_err()
            .to_string();
        assert!(
            again.ends_with("a key that is to follow is there already"),
            "{again}"
        );
    }
}
