//! Who answered the duties of an epoch keeps answering them: two nodes may order or date the same
//! duties differently, and a client that sees both would fetch everything again.

use std::collections::BTreeMap;

use holdfast_domain::Epoch;

use crate::class::EndpointClass;
use crate::upstream::UpstreamId;

/// Epochs remembered per class: the last, this one, the next, and one to spare.
const EPOCHS: usize = 4;

/// Who serves which epoch.
#[derive(Debug, Clone, Default)]
pub struct Sticky {
    chosen: BTreeMap<(EndpointClass, Epoch), UpstreamId>,
}

impl Sticky {
    /// Who serves `epoch`: who did so far if `still_fit`, else `fallback`, who does from now on.
    pub fn choose(
        &mut self,
        class: EndpointClass,
        epoch: Epoch,
        still_fit: impl Fn(UpstreamId) -> bool,
        fallback: Option<UpstreamId>,
    ) -> Option<UpstreamId> {
        if let Some(chosen) = self.chosen.get(&(class, epoch))
            && still_fit(*chosen)
        {
            return Some(*chosen);
        }
        let chosen = fallback?;
        self.chosen.insert((class, epoch), chosen);
        let of_class = || self.chosen.keys().filter(|(of, _)| *of == class);
        if of_class().count() > EPOCHS
            && let Some(oldest) = of_class().next().copied()
        {
            self.chosen.remove(&oldest);
        }
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_stays_where_it_was_while_that_is_fit() {
        let mut sticky = Sticky::default();
        let (a, b) = (UpstreamId(1), UpstreamId(2));
        let class = EndpointClass::Duty;
        assert_eq!(sticky.choose(class, Epoch(5), |_| true, None), None);
        assert_eq!(sticky.choose(class, Epoch(5), |_| true, Some(a)), Some(a));
        assert_eq!(sticky.choose(class, Epoch(5), |_| true, Some(b)), Some(a));
        assert_eq!(sticky.choose(class, Epoch(6), |_| true, Some(b)), Some(b), "another epoch");
        assert_eq!(sticky.choose(class, Epoch(5), |id| id != a, Some(b)), Some(b));
        assert_eq!(sticky.choose(class, Epoch(5), |_| true, Some(a)), Some(b), "and stays there");
        for epoch in 0..100 {
            sticky.choose(class, Epoch(epoch), |_| true, Some(a));
        }
        assert_eq!(sticky.chosen.len(), EPOCHS);
    }
}
