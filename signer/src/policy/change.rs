//! Another policy: from the configuration at SIGHUP, or given through the admin API.
//!
//! Guarantees: one change at a time; a change is in the journal before it takes effect; rules that were given are on disk
//! before they are in force, and those of the configuration are put in their place by nothing but their withdrawal.

use std::path::Path;
use std::sync::Arc;

use holdfast_access::Directory;
use holdfast_slashing_db::{CallerId, Guard, Refusal};
use tokio::sync::OwnedMutexGuard;
use tracing::{error, info};

use super::{Current, Given, KeptError, Origin, PolicyStore, Rulebook, kept};
use crate::config::WrittenPolicy;
use crate::outcome::chain;

/// What became of the rules of a configuration that was read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// They say the same as those in force.
    Same,
    /// They are in force.
    By {
        /// How many there are.
        rules: usize,
    },
    /// They are known, and others stay in force, which were given through the admin API.
    Kept {
        /// Since when and by whom.
        given: Given,
    },
}

/// Leave to change the policy, held by one at a time.
pub(crate) struct Turn {
    store: Arc<PolicyStore>,
    _turn: OwnedMutexGuard<()>,
}

impl PolicyStore {
    /// The rules in force.
    pub(crate) fn in_force(&self) -> Rulebook {
        self.current.load().book.clone()
    }

    /// Those of the configuration, in force or not.
    pub(crate) fn configured(&self) -> Rulebook {
        Rulebook::clone(&self.configured.load())
    }

    /// Where the configuration is.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// The time.
    pub(crate) fn given_by(&self, by: &CallerId) -> Given {
        Given { since: self.clock.now(), by: by.to_string() }
    }

    /// The rules in force, in words, and their groups of keys, if putting those of a configuration in their place would change
    /// anything.
    pub(crate) fn replaced_by(&self, written: &WrittenPolicy) -> Option<(String, Directory)> {
        let before = self.in_force();
        let change = before.origin != Origin::Given && !before.says_as(written);
        change.then(|| (before.said(), before.written.policy.directory().clone()))
    }

    /// Puts the rules of a configuration in force that was read again, after the durable record of it. The same again change
    /// and record nothing. While rules are in force that were given, they are only remembered.
    ///
    /// # Errors
    /// [`Refusal`]: it is not in the journal, and the old rules stay in force.
    pub(crate) async fn replace(
        &self,
        written: WrittenPolicy,
        guard: &Guard,
        by: &CallerId,
    ) -> Result<Replaced, Refusal> {
        let _turn = self.replacing.lock().await;
        let (before, after) = (self.in_force(), Rulebook::configured(written, self.given_by(by)));
        if before.origin == Origin::Given {
            self.configured.store(Arc::new(after));
            return Ok(Replaced::Kept { given: before.given });
        }
        if before.says_as(&after.written) {
            return Ok(Replaced::Same);
        }
        guard.record(self.event(by, "policy.replaced", &Self::difference(&before, &after))).await?;
        self.configured.store(Arc::new(after.clone()));
        let rules = after.written.count();
        self.put_in_force(&before, &after);
        Ok(Replaced::By { rules })
    }

    /// What the journal says of a change.
    pub(crate) fn difference(before: &Rulebook, after: &Rulebook) -> String {
        format!("from {} to {}", before.said(), after.said())
    }

    fn put_in_force(&self, before: &Rulebook, after: &Rulebook) {
        let (by, rules) = (after.given.by.clone(), after.written.count());
        let detail = Self::difference(before, after);
        // Which labels keys have is known here, and no matter of rules.
        let after = after.with_labels(&before.written.policy.directory().labels);
        self.current.store(Arc::new(Current::new(after)));
        self.show();
        info!(by, rules, "another policy is in force: {detail}");
    }

    /// Waits for the turn to change the policy. What is in force stays so while it is held.
    pub(crate) async fn turn(self: &Arc<Self>) -> Turn {
        let turn = Arc::clone(&self.replacing).lock_owned().await;
        Turn { store: Arc::clone(self), _turn: turn }
    }
}

impl Turn {
    /// The rules in force.
    pub(crate) fn in_force(&self) -> Rulebook {
        self.store.in_force()
    }

    /// Writes rules that were given to disk, and puts them in force. The journal has them already.
    ///
    /// # Errors
    /// [`KeptError`]: the old ones stay in force, and at a restart.
    pub(crate) async fn give(self, after: Rulebook) -> Result<(), KeptError> {
        let before = self.store.in_force();
        let (file, old, new) = (self.store.file.clone(), before.clone(), after.clone());
        let written = tokio::task::spawn_blocking(move || {
            let result = keep(&file, &new);
            // It may have its name and yet not be durable: what stays in force is what stays on disk, too.
            if result.is_err()
                && let Err(problem) = keep(&file, &old)
            {
                let problem = chain(&problem);
                error!(
                    problem,
                    "the rules in force are not on disk for sure: look at `holdfast policy show` after a restart"
                );
            }
            result
        });
        // A panic there is one here.
        written.await.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()))?;
        self.store.put_in_force(&before, &after);
        Ok(())
    }
}

/// Makes the file say what is in force.
fn keep(file: &Path, book: &Rulebook) -> Result<(), KeptError> {
    match &book.text {
        Some(text) => kept::write(file, &book.given, book.written.digest, text),
        None => kept::remove(file),
    }
}

#[cfg(test)]
mod tests {
    //! Proves: rules that are given are on disk before they count, and what cannot be kept does not count; a request that asks
    //! twice is judged by one policy.
    use std::sync::atomic::{AtomicBool, Ordering};

    use holdfast_access::{Builtin, Operation};
    use holdfast_domain::{PublicKey, UnixMillis};

    use super::super::{KeysOfLabels, RuleSources};
    use super::*;
    use crate::callers::Principal;
    use crate::clock::SystemClock;
    use crate::config::Config;

    fn sources(folder: &Path) -> RuleSources {
        let mut config = Config::default();
        config.data.dir = folder.to_owned();
        RuleSources::read(&config, "holdfast.toml".into(), KeysOfLabels::new(), Given::unknown()).unwrap()
    }

    fn store(folder: &Path) -> Arc<PolicyStore> {
        Arc::new(PolicyStore::new(sources(folder), Arc::new(SystemClock)))
    }

    fn key(byte: u8) -> PublicKey {
        PublicKey::from_bytes([byte; 48])
    }

    fn only(byte: u8) -> Rulebook {
        let text = format!(
            "[[policy]]\neffect = \"allow\"\ncallers = [\"http\"]\nkeys = [\"{}\"]\noperations = [\"list\"]\n",
            key(byte)
        );
        let written = WrittenPolicy::parse(&text, KeysOfLabels::new()).unwrap();
        Rulebook::given(written, &text, Given { since: UnixMillis(7), by: "somebody".to_owned() })
    }

    #[tokio::test]
    async fn given_rules_count_here_and_after_a_restart_until_they_are_withdrawn() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let digest = only(1).written.digest;
        store.turn().await.give(only(1)).await.unwrap();
        assert_eq!(store.in_force().written.digest, digest);
        let again = sources(dir.path());
        assert_eq!((again.in_force().written.digest, again.in_force().origin), (digest, Origin::Given));
        assert_eq!(again.in_force().given, Given { since: UnixMillis(7), by: "somebody".to_owned() });
        assert!(again.in_force().said().contains("given through the admin API"));
        store.turn().await.give(store.configured()).await.unwrap();
        assert_eq!((store.in_force().origin, sources(dir.path()).given.is_none()), (Origin::Configuration, true));
    }

    #[tokio::test]
    async fn what_cannot_be_kept_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.turn().await.give(only(1)).await.unwrap();
        let file = dir.path().join("policy.toml");
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(store.turn().await.give(only(2)).await.is_err());
        assert_eq!(store.in_force().written.digest, only(1).written.digest);
        std::fs::remove_dir(&file).unwrap();
        store.turn().await.give(only(2)).await.unwrap();
        assert_eq!(sources(dir.path()).in_force().written.digest, only(2).written.digest);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_request_is_judged_by_one_policy() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.turn().await.give(only(1)).await.unwrap();
        let end = Arc::new(AtomicBool::new(false));
        let asking: Vec<_> = (0..2)
            .map(|_| {
                let (store, end) = (Arc::clone(&store), Arc::clone(&end));
                std::thread::spawn(move || {
                    let http = Principal::builtin(Builtin::Http);
                    while !end.load(Ordering::Relaxed) {
                        let policy = store.now();
                        let [one, two] = [1, 2].map(|byte| policy.judge(&http, Some(&key(byte)), Operation::ListKeys));
                        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
                        let seen = policy.filter(&http, Operation::ListKeys, vec![key(1), key(2)], |key| key);
                        assert_eq!(seen, [key(if one.is_ok() { 1 } else { 2 })]);
                    }
                })
            })
            .collect();
        for round in 0..50_u8 {
            store.turn().await.give(only(1 + round % 2)).await.unwrap();
        }
        end.store(true, Ordering::Relaxed);
        for thread in asking {
            thread.join().unwrap();
        }
    }
}
