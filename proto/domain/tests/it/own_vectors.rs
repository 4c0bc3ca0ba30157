//! The committed vectors of this project, recomputed.

use holdfast_domain::{ObservedRoot, PublicKey, SigningIntent};
use serde_json::Value;

use crate::json::{Json, read_request};
use crate::own;

const COMMITTED: &str = include_str!("../own_vectors.json");

#[test]
fn every_value_is_recomputed() {
    let cases: Vec<Value> = serde_json::from_str(COMMITTED).unwrap();
    assert_eq!(cases.len(), 126);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let network = own::network(case["network"].as_str().unwrap());
        let (signable, fork_info) = read_request(&case["request"]);
        let message = signable.into_message(&network.preset);
        let object_root = message.object_root(&network.preset).unwrap();
        assert_eq!(object_root.to_string(), case["object_root"], "{name}");
        let claim = ObservedRoot::new(Json::from(&case["signing_root"]));
        let key = PublicKey::from_bytes([0; 48]);
        let intent = SigningIntent::new(key, &message, fork_info, Some(claim), &network).unwrap();
        assert_eq!(intent.domain().to_string(), case["domain"], "{name}");
        assert_eq!(intent.root().to_string(), case["signing_root"], "{name}");
    }
}

#[test]
fn the_committed_file_is_what_the_generator_writes() {
    let committed: Value = serde_json::from_str(COMMITTED).unwrap();
    assert!(
        committed == own::generate(),
        "run `cargo run -p holdfast-domain --example own_vectors > proto/domain/tests/own_vectors.json` \
         and review what changed"
    );
}
