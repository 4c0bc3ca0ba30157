//! Approvals: using one, and the approvers in force.

use super::Guard;
use crate::approvals::{ApprovalId, ApprovalPolicy, Pinned, PolicyHash, Spent};
use crate::error::AdminError;
use holdfast_domain::UnixMillis;

impl Guard {
    /// Uses an approval: of all who ever ask for the same one, one is told [`Spent::Now`], after it is durable.
    ///
    /// # Errors
    /// [`AdminError`]; it may then be used up or not. Whoever asked must not act on it.
    pub async fn use_approval(&self, id: ApprovalId, expires: UnixMillis) -> Result<Spent, AdminError> {
        let now = self.core.shared.settings.clock.now();
        self.write(move |store| Ok(store.use_approval(id, expires, now)?)).await
    }

    /// The approvers in force; `None` if nothing needs approvals.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn approval_policy(&self) -> Result<Option<ApprovalPolicy>, AdminError> {
        self.read(|store| store.approval_policy()).await
    }

    /// Puts other approvers in force, or none, if those in force are the ones `seen`.
    ///
    /// # Errors
    /// [`AdminError`]; they may then be in force or not.
    pub async fn pin_approval_policy(
        &self,
        seen: Option<PolicyHash>,
        new: Option<ApprovalPolicy>,
    ) -> Result<Pinned, AdminError> {
        self.write(move |store| Ok(store.pin_approval_policy(seen, new.as_ref())?)).await
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    //! Proves, on both stores: one use, whoever asks at the same time and whatever restarts; approvers change from what was
    //! seen, or not.
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may stop at the first surprise")]

    use super::*;
    use crate::support::{Home, caller, start_of};

    const DAY: u64 = 86_400_000;

    fn policy(text: &str) -> ApprovalPolicy {
        let hash = PolicyHash([text.len().try_into().unwrap(); 32]);
        ApprovalPolicy { document: text.to_owned(), hash, pinned: start_of(3), pinned_by: caller() }
    }

    async fn used_once(home: &Home) {
        let (id, now) = (ApprovalId([1; 16]), start_of(1_000));
        let expires = UnixMillis(now.0 + DAY);
        let guard = home.open();
        let many = (0..8).map(|_| guard.use_approval(id, expires));
        let mut told = Vec::new();
        for one in many.collect::<Vec<_>>() {
            told.push(one.await.unwrap());
        }
        assert_eq!(told.iter().filter(|spent| **spent == Spent::Now).count(), 1, "{told:?}");
        assert_eq!(guard.use_approval(ApprovalId([2; 16]), expires).await.unwrap(), Spent::Now);
        guard.shutdown().await;
        // Across a restart, and long after it expired, even with a clock that goes back.
        let guard = home.open();
        for later in [0, DAY + 1, 30 * DAY] {
            home.clock.set(UnixMillis(now.0 + later));
            assert_eq!(guard.use_approval(id, expires).await.unwrap(), Spent::Before, "{later}");
        }
        home.clock.set(now);
        assert_eq!(guard.use_approval(id, expires).await.unwrap(), Spent::Before);
        // In the end it is forgotten: nothing grows for ever.
        home.clock.set(UnixMillis(now.0 + 32 * DAY));
        assert_eq!(guard.use_approval(id, expires).await.unwrap(), Spent::Now);
        home.clock.set(now);
        guard.shutdown().await;
    }

    async fn pinned_from_what_was_seen(home: &Home) {
        let guard = home.open();
        let (first, second) = (policy("first"), policy("second"));
        assert_eq!(guard.approval_policy().await.unwrap(), None);
        let moved = guard.pin_approval_policy(Some(second.hash), Some(first.clone())).await.unwrap();
        assert_eq!(moved, Pinned::Moved);
        assert_eq!(guard.pin_approval_policy(None, Some(first.clone())).await.unwrap(), Pinned::Done);
        assert_eq!(guard.pin_approval_policy(None, Some(second.clone())).await.unwrap(), Pinned::Moved);
        assert_eq!(guard.approval_policy().await.unwrap(), Some(first.clone()));
        assert_eq!(guard.pin_approval_policy(Some(first.hash), Some(second.clone())).await.unwrap(), Pinned::Done);
        guard.shutdown().await;
        let guard = home.open();
        assert_eq!(guard.approval_policy().await.unwrap(), Some(second.clone()));
        assert_eq!(guard.pin_approval_policy(Some(second.hash), None).await.unwrap(), Pinned::Done);
        assert_eq!(guard.approval_policy().await.unwrap(), None);
        guard.shutdown().await;
    }

    #[tokio::test]
    async fn on_sqlite() {
        used_once(&Home::at_slot(1_000)).await;
        pinned_from_what_was_seen(&Home::at_slot(1_000)).await;
    }

    #[cfg(feature = "postgres")]
    #[tokio::test]
    async fn on_postgres() {
        let home = Home::on_postgres(1_000);
        used_once(&home).await;
        pinned_from_what_was_seen(&home).await;
        // Two signers at the same moment.
        let other = home.sibling();
        let (one, two) = (home.open(), other.open());
        for round in 10..30 {
            let (id, expires) = (ApprovalId([round; 16]), UnixMillis(start_of(1_000).0 + DAY));
            let (first, second) = tokio::join!(one.use_approval(id, expires), two.use_approval(id, expires));
            let told = [first.unwrap(), second.unwrap()];
            assert_eq!(told.iter().filter(|spent| **spent == Spent::Now).count(), 1, "{told:?}");
        }
        one.shutdown().await;
        two.shutdown().await;
    }
}
