//! Duties: sticky, compared, never mixed.

use std::sync::{Arc, OnceLock};

use holdfast_beacon::DecisionKind;

use crate::scripted::{Answer, ScriptedNode};
use crate::stage::{ALIKE, Setting, Stage, eventually};

fn duties(root: &str, of: &str) -> Answer {
    Answer::json(format!(r#"{{"dependent_root":"{root}","execution_optimistic":false,"data":[],"of":"{of}"}}"#))
}

fn teach(stage: &Stage, route: &str, root: impl Fn(&ScriptedNode) -> String) {
    for node in &stage.nodes {
        node.answer(route, duties(&root(node), node.name()));
    }
}

fn attester(stage: &Stage) -> (String, String) {
    let path = format!("/eth/v1/validator/duties/attester/{}", stage.nodes[0].chain().epoch());
    (format!("POST {path}"), path)
}

#[tokio::test]
async fn an_epochs_duties_come_from_one_node_and_are_compared_once() {
    let stage = Setting::of(&ALIKE).stage().await;
    let (route, path) = attester(&stage);
    let root = stage.nodes[0].chain().block_root(5, 0);
    teach(&stage, &route, |_| root.clone());
    let first = stage.post(&path, r#"["1"]"#).await.json()["of"].clone();
    for _ in 0..5 {
        let answer = stage.post(&path, r#"["1"]"#).await;
        assert_eq!((answer.status, &answer.json()["of"]), (200, &first));
    }
    eventually("one other node is compared with", || {
        let mut counts = stage.counts(&route);
        counts.sort_unstable();
        counts == [0, 1, 6]
    })
    .await;
    assert_eq!(stage.seen(first.as_str().unwrap(), &route)[0].text(), r#"["1"]"#);
}

#[tokio::test]
async fn when_roots_differ_the_majoritys_duties_are_given_and_it_is_told() {
    let stage = Setting::of(&ALIKE).stage().await;
    let (route, path) = attester(&stage);
    let chain = stage.nodes[0].chain().clone();
    // Whoever is asked first depends on another block than the others.
    let first = Arc::new(OnceLock::new());
    for node in &stage.nodes {
        let (first, name, chain) = (Arc::clone(&first), node.name().to_owned(), chain.clone());
        node.script(&route, move |_| {
            let alone = *first.get_or_init(|| name.clone()) == name;
            duties(&chain.block_root(5, if alone { 1 } else { 2 }), &name)
        });
    }
    let answer = stage.post(&path, r#"["1"]"#).await.json();
    assert_eq!(answer["dependent_root"], chain.block_root(5, 1));
    eventually("the difference is noticed", || !stage.decided(DecisionKind::DutiesDiffer).is_empty()).await;
    assert!(stage.decided(DecisionKind::DutiesDiffer)[0].contains("the majority's are given"));
    for _ in 0..3 {
        let answer = stage.post(&path, r#"["1"]"#).await.json();
        assert_eq!(answer["dependent_root"], chain.block_root(5, 2), "and it stays so");
    }
}

#[tokio::test]
async fn a_hung_node_costs_a_moment_and_is_cancelled() {
    let stage = Setting::of(&ALIKE).stage().await;
    let (route, path) = attester(&stage);
    let root = stage.nodes[0].chain().block_root(5, 0);
    teach(&stage, &route, |_| root.clone());
    let sticky = stage.post(&path, r#"["1"]"#).await.json()["of"].as_str().unwrap().to_owned();
    stage.node(&sticky).answer(&route, Answer::never());
    let answer = stage.post(&path, r#"["2"]"#).await;
    assert_eq!(answer.status, 200);
    assert_ne!(answer.json()["of"], sticky);
    eventually("the hung call is given up", || stage.node(&sticky).abandoned(&route) == 1).await;
}

#[tokio::test]
async fn first_version_proposer_duties_are_not_mixed_between_clients() {
    let stage = Setting::of(&["Lighthouse/v8.0.0", "teku/v25.1.0", "Lighthouse/v8.0.0", "teku/v25.1.0"]).stage().await;
    let path = format!("/eth/v1/validator/duties/proposer/{}", stage.nodes[0].chain().epoch());
    let route = format!("GET {path}");
    teach(&stage, &route, |node| node.chain().block_root(1, u8::from(node.name() == "b" || node.name() == "d")));
    for _ in 0..3 {
        assert_eq!(stage.get(&path).await.status, 200);
    }
    eventually("another node of the same client is compared with", || {
        stage.counts(&route).iter().filter(|count| **count > 0).count() == 2
    })
    .await;
    let counts = stage.counts(&route);
    let (lighthouse, teku) = (counts[0] + counts[2], counts[1] + counts[3]);
    assert!(lighthouse == 0 || teku == 0, "{counts:?}");
    assert!(stage.decided(DecisionKind::DutiesDiffer).is_empty());
}

#[tokio::test]
async fn a_missing_second_version_is_not_replaced_by_the_first() {
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    let epoch = stage.nodes[0].chain().epoch();
    let route = format!("GET /eth/v2/validator/duties/proposer/{epoch}");
    for node in &stage.nodes {
        node.answer(&route, Answer::error(404, "no such route"));
    }
    assert_eq!(stage.get(&format!("/eth/v2/validator/duties/proposer/{epoch}")).await.status, 404);
    assert_eq!(stage.counts("GET /eth/v1/validator/duties/*"), [0, 0]);
}
