//! A database that is not the right one: another program's, of a newer or older schema, of another network, or one
//! that cannot be written. On both stores: a clear error, the right exit code, and not a byte changed.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use holdfast_tests::finished::{Finished, SERVE, run};
use holdfast_tests::postgres::Session;
use holdfast_tests::world::World;
use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{cluster, empty_database, entry, file, keys, write};

/// Commands that open the database, with what they need.
fn commands(world: &World) -> Vec<Vec<String>> {
    let key = holdfast_tests::keys::TestKey::interop(0).public;
    let history = write(world, "good.json", &file(&json!([entry(&key, 5, 2, 3)])).to_string());
    [
        &["slashing", "import", "--from", &history][..],
        &["slashing", "import", "--from", &history, "--dry-run"],
        &["slashing", "export", "--to", "-"],
        &["slashing", "status"],
        &["slashing", "fence"],
        &["keys", "list"],
        &SERVE,
    ]
    .map(|words| words.iter().map(|&word| word.to_owned()).collect())
    .to_vec()
}

/// Every command fails so, and what `look` sees stays.
fn all_fail<T: PartialEq + std::fmt::Debug>(
    world: &World,
    what: &str,
    code: i32,
    phrases: &[&str],
    mut look: impl FnMut() -> T,
) {
    let before = look();
    for words in commands(world) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        println!("{what}: {}", words[..2].join(" "));
        run(&world.with(&words)).expect(code, phrases);
        assert_eq!(look(), before, "{what}: {words:?} changed something");
    }
}

/// Content and mode of the database file, and what lies beside it.
fn file_state(data: &Path) -> (Vec<String>, String, u32) {
    let path = data.join("holdfast.db");
    let digest = hex::encode(Sha256::digest(std::fs::read(&path).expect("the database is there")));
    let mut names: Vec<String> = std::fs::read_dir(data)
        .expect("the data directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("holdfast.db"))
        .collect();
    names.sort();
    (names, digest, std::fs::metadata(&path).expect("the file").permissions().mode())
}

fn sqlite(data: &Path, sql: &str) {
    let db = Connection::open(data.join("holdfast.db")).expect("the file opens");
    db.execute_batch(sql).expect("the statements run");
}

/// A data directory with a file in the place of the database.
fn with_file(content: &[u8]) -> World {
    let world = World::new(0);
    std::fs::create_dir(world.data_dir()).expect("the data directory");
    std::fs::set_permissions(world.data_dir(), PermissionsExt::from_mode(0o700)).expect("chmod");
    let path = world.data_dir().join("holdfast.db");
    std::fs::write(&path, content).expect("the file is written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("chmod");
    world
}

#[test]
fn sqlite_files_of_others_and_of_newer_programs() {
    let text = with_file(b"this is no database, and long enough to be one: it is only text");
    all_fail(&text, "text", 3, &["is not a Holdfast database"], || file_state(&text.data_dir()));
    let foreign = with_file(b"");
    sqlite(&foreign.data_dir(), "CREATE TABLE orders (id INTEGER); INSERT INTO orders VALUES (7)");
    let phrases = ["is an SQLite database of another program", "another data directory"];
    all_fail(&foreign, "foreign", 3, &phrases, || file_state(&foreign.data_dir()));
    let newer = World::new(1);
    sqlite(&newer.data_dir(), "INSERT INTO schema_version VALUES (99); PRAGMA wal_checkpoint(TRUNCATE)");
    all_fail(&newer, "newer", 3, &["has schema version 99", "install the newer version"], || {
        file_state(&newer.data_dir())
    });
}

/// Unmounts when dropped.
struct Mounted(String);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn an_sqlite_file_that_cannot_be_written() {
    let world = World::new(1);
    let data = world.data_dir();
    let path = data.display().to_string();
    let mount = |arguments: &[&str]| {
        let mounted = Command::new("mount").args(arguments).output().expect("mount is installed");
        assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
    };
    mount(&["--bind", &path, &path]);
    mount(&["-o", "remount,bind,ro", &path]);
    let mounted = Mounted(path);
    all_fail(&world, "read-only file", 3, &["holdfast.db"], || file_state(&data));
    drop(mounted);
    assert_eq!(keys(&world)[0]["state"], "enabled", "writable again, it is whole");
}

/// `holdfast … --network hoodi …` on the database of the test network.
fn on_hoodi(world: &World, database: Option<&str>, words: &[&str]) -> Finished {
    let data = world.data_dir().display().to_string();
    let mut arguments = vec!["--data-dir", data.as_str(), "--network", "hoodi"];
    arguments.extend(database.map(|url| ["--database", url]).into_iter().flatten());
    arguments.extend(words);
    run(&arguments)
}

#[test]
fn the_database_of_another_network() {
    let sqlite = World::new(1);
    let url = empty_database();
    let postgres = World::with_database(&url, 1);
    for (world, database) in [(&sqlite, None), (&postgres, Some(url.as_str()))] {
        let before = keys(world);
        let hoodi = "0x212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f";
        let mut other = file(&json!([]));
        other["metadata"]["genesis_validators_root"] = hoodi.into();
        let path = write(world, "hoodi.json", &other.to_string());
        let phrases = ["belongs to the chain with genesis validators root 0x7777", hoodi];
        on_hoodi(world, database, &["slashing", "status"]).expect(2, &phrases);
        on_hoodi(world, database, &["slashing", "import", "--from", &path]).expect(2, &phrases);
        on_hoodi(world, database, &SERVE).expect(2, &phrases);
        assert_eq!(keys(world), before);
    }
}

/// Schemas, tables and their rows' count.
fn server_state(session: &mut Session) -> Vec<Vec<String>> {
    let sql = "SELECT n.nspname, c.relname, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema') ORDER BY 1, 2";
    session.run(sql).expect("the server runs")
}

#[test]
fn postgresql_databases_of_others_and_of_newer_programs() {
    let url = empty_database();
    let world = World::with_database(&url, 0);
    let mut session = cluster().session_on(&url);
    // Nothing is there yet: who only looks makes nothing.
    for words in [&["slashing", "status"][..], &["slashing", "export", "--to", "-"], &["keys", "list"]] {
        run(&world.with(words)).expect(2, &["there is no database at postgres://"]);
    }
    assert_eq!(server_state(&mut session), Vec::<Vec<String>>::new());

    session
        .run("CREATE SCHEMA shop; CREATE TABLE shop.orders (id integer); CREATE TABLE people (id integer)")
        .expect("made");
    let before = server_state(&mut session);
    let history = write(&world, "good.json", &file(&json!([])).to_string());
    for words in [&["slashing", "import", "--from", &history][..], &["keys", "generate"], &SERVE] {
        let phrases = ["tables of another program (public.people, shop.orders)", "holdfast slashing migrate"];
        run(&world.with(words)).expect(2, &phrases);
        assert_eq!(server_state(&mut session), before, "{words:?}");
    }
    run(&world.with(&["slashing", "migrate"])).expect(0, &["applied"]);
    run(&world.with(&["slashing", "import", "--from", &history])).expect(0, &["imported"]);

    session.run("INSERT INTO holdfast.schema_version VALUES (99, 99)").expect("the server runs");
    let phrases = ["has schema version 99", "install the newer version"];
    all_fail(&world, "newer", 3, &phrases, || server_state(&mut session));
    // A newer one that this program still understands is used.
    session.run("UPDATE holdfast.schema_version SET oldest_program = 1 WHERE version = 99").expect("the server runs");
    run(&world.with(&["slashing", "status"])).expect(0, &[]);
}

#[test]
fn a_postgresql_database_that_cannot_be_written() {
    let url = empty_database();
    let world = World::with_database(&url, 1);
    let name = url.rsplit('/').next().and_then(|rest| rest.split('?').next()).expect("a name").to_owned();
    let mut session = cluster().session_on(&url);
    let rows = |session: &mut Session| {
        session.run("SELECT xmin::text, v::text FROM holdfast.validators v").expect("the server runs")
    };
    cluster().psql(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    all_fail(&world, "read-only", 3, &["is read-only", "primary"], || rows(&mut session));
    cluster().psql(&format!("ALTER DATABASE {name} RESET default_transaction_read_only"));
    assert_eq!(keys(&world)[0]["state"], "enabled", "writable again, it is whole");
    // A role that may connect and nothing else.
    let role = format!("stranger_{}", std::process::id());
    cluster().psql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'"));
    let stranger = format!("postgres://{role}:x@{}/{name}?sslmode=disable", cluster().addr());
    let words = ["--database", stranger.as_str(), "slashing", "status"];
    let arguments: Vec<String> = world.arguments().into_iter().take_while(|word| word != "--database").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(words).collect();
    run(&arguments).expect(3, &["permission denied"]);
}

/// Takes out of a database everything that came after the first version of the schema.
fn downgrade(data: &Path, initial: &str) {
    let names = |db: &Connection| -> Vec<(String, String)> {
        let sql = "SELECT type, name FROM sqlite_schema WHERE type IN ('table', 'trigger') ORDER BY type DESC";
        let mut statement = db.prepare(sql).expect("the schema is readable");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("the schema is readable");
        rows.map(|row| row.expect("a name")).collect()
    };
    let first = Connection::open_in_memory().expect("memory");
    first.execute_batch(initial).expect("the first migration");
    let known = names(&first);
    let db = Connection::open(data.join("holdfast.db")).expect("the file opens");
    for (kind, name) in names(&db).iter().filter(|one| !known.contains(one)) {
        // A trigger may be gone with its table.
        db.execute_batch(&format!("DROP {kind} IF EXISTS {name}")).expect("it goes");
    }
    let columns = |db: &Connection, table: &str| -> Vec<String> {
        let mut statement = db.prepare("SELECT name FROM pragma_table_info(?1)").expect("the schema is readable");
        let rows = statement.query_map([table], |row| row.get(0)).expect("the schema is readable");
        rows.map(|row| row.expect("a name")).collect()
    };
    for (_, table) in known.iter().filter(|(kind, _)| kind == "table") {
        let before = columns(&first, table);
        for column in columns(&db, table).iter().filter(|column| !before.contains(column)) {
            db.execute_batch(&format!("ALTER TABLE {table} DROP COLUMN {column}")).expect("it goes");
        }
    }
    let left = db.execute("DELETE FROM schema_version WHERE version > 1", []).expect("the version");
    assert!(left > 0, "there is no newer version to take away");
}

#[test]
fn an_older_schema_is_brought_up_to_date_and_keeps_everything() {
    let folder = holdfast_tests::harness::workspace().join("slashing-db/migrations");
    let initial = |store: &str| {
        std::fs::read_to_string(folder.join(store).join("0001_initial.sql")).expect("the first migration")
    };
    let key = holdfast_tests::keys::TestKey::interop(0).public;
    let take = |world: &World, slot: u64, source: u64, target: u64| {
        let path = write(world, "older.json", &file(&json!([entry(&key, slot, source, target)])).to_string());
        let lines = crate::support::run(world, &["slashing", "import", "--from", &path]).expect(0, &[]).lines();
        lines[0]["after"].clone()
    };
    let sqlite = World::new(0);
    take(&sqlite, 40, 3, 4);
    downgrade(&sqlite.data_dir(), &initial("sqlite"));
    let url = empty_database();
    let postgres = World::with_database(&url, 0);
    let mut session = cluster().session_on(&url);
    session.run(&initial("postgres")).expect("the first migration");
    let insert = format!(
        "INSERT INTO holdfast.validators (pubkey, state, max_slot, max_source, max_target) \
         VALUES ('\\x{}', 1, 40, 3, 4)",
        &key[2..]
    );
    session.run(&insert).expect("the server runs");
    for world in [&sqlite, &postgres] {
        let known: Value = keys(world);
        assert_eq!((&known[0]["block_slot"], &known[0]["target_epoch"]), (&json!(40), &json!(4)), "{known}");
        let after = take(world, 5, 9, 3);
        assert_eq!(after, json!({ "block_slot": 40, "source_epoch": 9, "target_epoch": 4 }));
    }
}
