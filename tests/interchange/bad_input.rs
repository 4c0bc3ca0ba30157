//! Damaged and hostile interchange files: each is refused with the place of the fault, and nothing changes.

use holdfast_tests::world::World;
use serde_json::{Value, json};

use crate::support::{cluster, empty_database, entry, file, keys, run, write};

fn good(world: &World) -> Value {
    file(&json!([entry(&world.keys[0].public, 5, 2, 3)]))
}

fn altered(world: &World, pointer: &str, to: Value) -> String {
    let mut value = good(world);
    *value.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = to;
    value.to_string()
}

#[test]
fn every_kind_of_bad_file_is_refused_and_leaves_nothing_on_sqlite() {
    refuse_all(&World::new(1));
}

#[test]
fn every_kind_of_bad_file_is_refused_and_leaves_nothing_on_postgresql() {
    refuse_all(&World::with_database(&empty_database(), 1));
}

#[test]
fn a_bad_file_makes_no_database() {
    let url = empty_database();
    for world in [World::new(0), World::with_database(&url, 0)] {
        let path = write(&world, "bad.json", "{");
        run(&world, &["slashing", "import", "--from", &path]).expect(1, &["nothing was imported"]);
        let path = write(&world, "good.json", &file(&json!([])).to_string());
        let dry = run(&world, &["slashing", "import", "--from", &path, "--dry-run"]).expect(0, &[]);
        assert_eq!(dry.lines()[0]["totals"]["new"], 0);
        assert!(!world.data_dir().exists(), "a data directory was made");
    }
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'holdfast'";
    assert_eq!(cluster().session_on(&url).run(schemas).expect("the server runs"), [["0"]]);
}

fn refuse_all(world: &World) {
    let before = keys(world);
    let text = good(world).to_string();
    let slot = "/data/0/signed_blocks/0/slot";
    let mut unknown = good(world);
    unknown["data"][0]["surprise"] = 1.into();
    let twice = text.replacen("\"signed_blocks\"", "\"signed_blocks\":[],\"signed_blocks\"", 1);
    let huge = "9".repeat(40);
    let bad: Vec<(&str, String, &str)> = vec![
        ("truncated", text[..text.len() / 2].to_owned(), "ends"),
        ("empty", String::new(), ""),
        ("no JSON", "hello".to_owned(), ""),
        ("trailing", format!("{text}x"), ""),
        ("version 4", altered(world, "/metadata/interchange_format_version", "4".into()), "version"),
        ("version number", altered(world, "/metadata/interchange_format_version", 5.into()), "version"),
        (
            "root",
            altered(world, "/metadata/genesis_validators_root", format!("0x{}", "11".repeat(32)).into()),
            "genesis",
        ),
        ("negative", altered(world, slot, "-1".into()), "slot"),
        ("negative number", altered(world, slot, (-1).into()), "slot"),
        ("huge", altered(world, slot, huge.as_str().into()), "slot"),
        ("2^64", altered(world, slot, "18446744073709551616".into()), "slot"),
        ("fraction", altered(world, slot, "1.5".into()), "slot"),
        ("no key", altered(world, "/data/0/pubkey", "0x12".into()), "pubkey"),
        ("null lists", altered(world, "/data/0/signed_blocks", Value::Null), "signed_blocks"),
        ("unknown member", unknown.to_string(), "surprise"),
        ("unknown at the top", format!("{{\"x\":1,{}", &text[1..]), "is not part of"),
        ("metadata twice", format!("{{\"metadata\":null,{}", &text[1..]), "metadata"),
        ("bare number above 2^53", altered(world, slot, 9_007_199_254_740_993_u64.into()), "rounded"),
        ("exponent", altered(world, slot, serde_json::from_str("1e3").expect("a number")), "slot"),
        ("endless text", altered(world, slot, "1".repeat(1 << 20).as_str().into()), "longer than"),
        ("root of another length", altered(world, "/metadata/genesis_validators_root", "0x77".into()), "root"),
        ("a list", "[]".to_owned(), ""),
        ("member twice", twice, "signed_blocks"),
        ("deep", "[".repeat(100_000), ""),
    ];
    for (what, text, phrase) in &bad {
        let path = write(world, "bad.json", text);
        for dry in [&["--dry-run"][..], &[]] {
            let mut arguments = vec!["slashing", "import", "--from", path.as_str()];
            arguments.extend(dry);
            let finished = run(world, &arguments);
            assert_eq!(finished.code, 1, "{what}: {}", finished.text());
            assert!(finished.stderr.contains(phrase), "{what}: {}", finished.text());
            assert!(finished.stderr.contains("nothing was imported"), "{what}: {}", finished.text());
        }
        assert_eq!(keys(world), before, "{what} changed something");
    }
    run(world, &["slashing", "import", "--from", "does/not/exist.json"]).expect(2, &["does/not/exist.json"]);
}

#[test]
fn a_validator_listed_twice_is_merged() {
    let world = World::new(1);
    let key = world.keys[0].public.clone();
    let data = json!([entry(&key, 9, 1, 2), entry(&key.to_uppercase().replace("0X", ""), 5, 4, 6)]);
    let path = write(&world, "twice.json", &file(&data).to_string());
    let report = run(&world, &["slashing", "import", "--from", &path]).expect(0, &[]).lines();
    assert_eq!(report[0]["after"], json!({ "block_slot": 9, "source_epoch": 4, "target_epoch": 6 }));
    assert_eq!(report[1]["totals"]["raised"], 1);
}

#[test]
fn part_of_a_damaged_file_only_on_request_and_never_in_silence() {
    let world = World::new(2);
    let mut data = json!([entry(&world.keys[0].public, 9, 1, 2), entry(&world.keys[1].public, 9, 1, 2)]);
    data[1]["signed_blocks"][0]["slot"] = "-1".into();
    let path = write(&world, "part.json", &file(&data).to_string());
    run(&world, &["slashing", "import", "--from", &path]).expect(1, &["nothing was imported"]);
    let partial = run(&world, &["slashing", "import", "--from", &path, "--allow-partial"]).expect(1, &["left_out"]);
    let lines = partial.lines();
    assert_eq!((&lines[0]["change"], &lines[1]["entry"]), (&json!("raised"), &json!(1)));
    let all = keys(&world);
    let slots: Vec<Option<u64>> =
        all.as_array().expect("a list").iter().map(|one| one["block_slot"].as_u64()).collect();
    assert_eq!(slots, [Some(9), None]);
}
