//! Proves: contradictions split groups, lag does not, implementations outvote copies, and the branch of a
//! head is told from ancestry.

use holdfast_domain::Epoch;

use super::*;

fn root(byte: u8) -> BlockRoot {
    BlockRoot([byte; 32])
}

fn node(id: u16, vendor: Vendor, head: u8, justified: Option<(u64, u8)>) -> ChainView {
    ChainView {
        upstream: UpstreamId(id),
        vendor,
        head: Some(root(head)),
        justified: justified.map(|(epoch, byte)| Checkpoint { epoch: Epoch(epoch), root: root(byte) }),
        finalized: None,
    }
}

/// 1 <- 2 <- 3 <- 4, and 2 <- 13 <- 14.
fn tree() -> BlockTree {
    let mut tree = BlockTree::default();
    for (block, slot, parent) in [(2, 2, 1), (3, 3, 2), (4, 4, 3), (13, 3, 2), (14, 5, 13)] {
        tree.insert(root(block), Slot(slot), root(parent));
    }
    tree
}

fn agreements(nodes: &[ChainView]) -> Vec<(u16, Agreement)> {
    let groups = group(nodes, &tree());
    nodes.iter().map(|node| groups[&node.upstream]).map(|grouping| (grouping.group.0, grouping.agreement)).collect()
}

#[test]
fn three_of_one_client_do_not_outvote_two_different_ones() {
    let (main, other) = (Some((9, 90)), Some((9, 91)));
    let nodes = [
        node(0, Vendor::Lighthouse, 4, other),
        node(1, Vendor::Lighthouse, 4, other),
        node(2, Vendor::Lighthouse, 4, other),
        node(3, Vendor::Teku, 4, main),
        node(4, Vendor::Nimbus, 4, main),
    ];
    let minority = (0, Agreement::Minority);
    let majority = (1, Agreement::Majority);
    assert_eq!(agreements(&nodes), [minority, minority, minority, majority, majority]);
}

#[test]
fn a_tie_decides_nothing_and_lag_is_no_contradiction() {
    let tie = [node(0, Vendor::Teku, 4, Some((9, 90))), node(1, Vendor::Prysm, 4, Some((9, 91)))];
    assert_eq!(agreements(&tie), [(0, Agreement::Undecided), (1, Agreement::Undecided)]);
    let lag = [
        node(0, Vendor::Teku, 4, Some((9, 90))),
        node(1, Vendor::Prysm, 2, Some((8, 80))),
        node(2, Vendor::Prysm, 3, None),
    ];
    assert!(agreements(&lag).iter().all(|agreement| *agreement == (0, Agreement::Majority)));
    assert_eq!(agreements(&[node(0, Vendor::Teku, 4, None)]), [(0, Agreement::Majority)], "alone");
    assert!(group(&[], &tree()).is_empty());
}

#[test]
fn heads_on_other_branches_are_told_from_heads_that_lag() {
    let nodes = [
        node(0, Vendor::Teku, 4, None),
        node(1, Vendor::Prysm, 2, None),
        node(2, Vendor::Nimbus, 3, None),
        node(3, Vendor::Lodestar, 14, None),
        node(4, Vendor::Grandine, 77, None),
    ];
    let expected =
        [Agreement::Majority, Agreement::Majority, Agreement::Majority, Agreement::HeadFork, Agreement::Majority];
    assert_eq!(agreements(&nodes), expected.map(|agreement| (0, agreement)), "77 is an unknown block");
}

#[test]
fn only_so_many_blocks_are_remembered() {
    let mut tree = tree();
    for slot in 0..1000u16 {
        let mut bytes = [0xee; 32];
        bytes[..2].copy_from_slice(&slot.to_be_bytes());
        tree.insert(BlockRoot(bytes), Slot(100 + u64::from(slot)), root(1));
    }
    assert_eq!((tree.blocks.len(), tree.by_slot.len()), (REMEMBERED_BLOCKS, REMEMBERED_BLOCKS));
    assert!(!tree.blocks.contains_key(&root(4)), "the oldest goes first");
}
