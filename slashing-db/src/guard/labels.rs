//! Labels of keys, and which keys have each.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_domain::PublicKey;

use super::Guard;
use crate::error::AdminError;
use crate::identity::CallerId;
use crate::labels::{Label, LabelChange, Labelled, by_label};

impl Guard {
    /// Changes the labels of keys (each once) in one transaction; the answer is in their order.
    ///
    /// # Errors
    /// [`AdminError`]; nothing is changed then.
    pub async fn label(
        &self,
        keys: Vec<PublicKey>,
        change: LabelChange,
        by: &CallerId,
    ) -> Result<Vec<Labelled>, AdminError> {
        let (now, by) = (self.core.shared.settings.clock.now(), by.clone());
        self.write(move |store| Ok(store.label(&keys, &change, &by, now)?)).await
    }

    /// The keys that have each label. Deleted keys have none.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn labels(&self) -> Result<BTreeMap<Label, BTreeSet<PublicKey>>, AdminError> {
        self.read(|store| store.labels()).await.map(by_label)
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    //! Proves, on both stores: labels are kept over a restart, come with a key, go with it, and are counted as a change.
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may stop at the first surprise")]

    use super::*;
    use crate::labels::Labels;
    use crate::registry::{EntryWatermark, NewKey, Tombstone};
    use crate::support::{Home, caller, key, new_key, register_fresh};

    fn labels(words: &[&str]) -> Labels {
        words.iter().map(|word| word.parse().unwrap()).collect()
    }

    fn change(add: &[&str], remove: &[&str]) -> LabelChange {
        LabelChange { add: labels(add), remove: labels(remove) }
    }

    async fn kept(home: &Home) {
        let guard = home.open();
        register_fresh(&guard, [key(1), key(2)]).await;
        let born = NewKey { labels: labels(&["born"]), ..new_key(key(3)) };
        let _ = guard.register(born, EntryWatermark::NeverSigned, Tombstone::Refuse).await.unwrap();
        let changes = guard.key_changes().await.unwrap();
        let done = |before, after| Labelled::Done { before, after };
        let keys = vec![key(1), key(9), key(3)];
        let answer = guard.label(keys, change(&["a", "b"], &["born"]), &caller()).await.unwrap();
        assert_eq!(answer[0], done(Labels::new(), labels(&["a", "b"])));
        assert_eq!((&answer[1], &answer[2]), (&Labelled::Unknown, &done(labels(&["born"]), labels(&["a", "b"]))));
        assert!(changes.is_none() || guard.key_changes().await.unwrap() != changes, "others must notice");
        guard.label(vec![key(1)], change(&["c"], &["a"]), &caller()).await.unwrap();
        guard.shutdown().await;

        let guard = home.open();
        assert_eq!(guard.key_info(&key(1)).await.unwrap().unwrap().labels, labels(&["b", "c"]));
        let all = guard.labels().await.unwrap();
        let keys = |label: &str| all.get(&label.parse().unwrap()).cloned().unwrap_or_default();
        assert_eq!((keys("a"), keys("b")), (BTreeSet::from([key(3)]), BTreeSet::from([key(1), key(3)])));
        assert!(keys("born").is_empty());

        guard.tombstone(&key(3), &caller()).await.unwrap();
        assert_eq!(guard.label(vec![key(3)], change(&["a"], &[]), &caller()).await.unwrap(), [Labelled::Deleted]);
        assert_eq!(guard.key_info(&key(3)).await.unwrap().unwrap().labels, Labels::new());
        let back = NewKey { labels: labels(&["back"]), ..new_key(key(3)) };
        let _ = guard.register(back, EntryWatermark::Now, Tombstone::Replace).await.unwrap();
        assert_eq!(guard.key_info(&key(3)).await.unwrap().unwrap().labels, labels(&["back"]));
        let many = (0..40).map(|number| format!("l{number}").parse().unwrap()).collect();
        let many = LabelChange { add: many, ..LabelChange::default() };
        assert_eq!(guard.label(vec![key(2)], many, &caller()).await.unwrap(), [Labelled::TooMany]);
        assert_eq!(guard.key_info(&key(2)).await.unwrap().unwrap().labels, Labels::new());
        guard.shutdown().await;
    }

    #[tokio::test]
    async fn labels_are_kept_in_sqlite() {
        kept(&Home::at_slot(1_000)).await;
    }

    #[cfg(feature = "postgres")]
    #[tokio::test(flavor = "multi_thread")]
    async fn labels_are_kept_in_postgres() {
        kept(&Home::on_postgres(1_000)).await;
    }
}
