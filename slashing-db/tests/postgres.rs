//! PostgreSQL as the store, on a real server: restarts, several instances on one database, servers that must be
//! refused, connections that break or hang, and commits whose outcome is unknown.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "tests may stop at the first surprise, and use different parts of what they share"
)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_domain::{Epoch, GenesisValidatorsRoot, Slot};
use holdfast_slashing_db::journal::Reader;
use holdfast_slashing_db::{
    Approval, BindOptions, DataKeyId, DataKeyRecord, EntryWatermark, Floor, Guard, GuardHealth, KeyState, OpenError,
    Registered, RollbackKind, SlashingDb, Switch, Tombstone,
};
use support::postgres::{Cluster, url_at};
use support::proxy::{Proxy, Wire};
use support::{Home, Intents, caller, chain, key, new_key, register_fresh, slot_clock, start_of};

fn open(home: &Home) -> Result<SlashingDb, OpenError> {
    SlashingDb::open_postgres(&home.postgres_options())
}

/// The name of a home's database.
fn database(home: &Home) -> String {
    home.url.as_ref().unwrap().rsplit('/').next().unwrap().to_owned()
}

/// Asks until the database is back: how often is no matter, that it comes back without a restart is.
async fn until_served(guard: &Guard, intents: &Intents, slot: u64) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match guard.authorize(intents.block(key(1), slot, 1), caller()).await {
            Ok(permit) => return permit.commit_seq(),
            Err(refusal) => assert_eq!(refusal.reason(), "database_unavailable", "{refusal}"),
        }
        assert!(Instant::now() < deadline, "the database did not come back");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_instance_keeps_its_identity_and_its_journal() {
    let home = Home::on_postgres(1_000);
    let intents = Intents::new();
    let guard = home.open();
    register_fresh(&guard, [key(1)]).await;
    let permit = guard.authorize(intents.block(key(1), 50, 1), caller()).await.unwrap();
    assert_eq!((permit.approval(), permit.commit_seq()), (Approval::NewData, 1));
    drop(guard.authorize(intents.vote(key(1), 3, 4, 1), caller()).await.unwrap());
    let record = DataKeyRecord { id: DataKeyId(1), provider: "file".into(), wrapped: vec![1, 2], stored: start_of(1) };
    guard.put_data_key(record.clone()).await.unwrap();
    let before = guard.instances().await.unwrap();
    assert_eq!((before.len(), before[0].head.seq), (1, 2));
    drop(guard);

    let mut journal = Reader::open_postgres(&home.postgres_options(), before[0].id).unwrap();
    assert_eq!(journal.by_ref().map(|batch| batch.unwrap().records.len()).sum::<usize>(), 2);
    assert_eq!(journal.head(), before[0].head);
    let db = open(&home).unwrap();
    assert_eq!((db.instance_id(), db.journal_head().seq), (before[0].id, 2));
    assert_eq!(db.pinned_network(), Some(chain()));
    drop(db);
    let guard = home.open();
    assert_eq!(guard.health(), GuardHealth::Serving);
    assert_eq!(guard.data_keys().await.unwrap(), [record]);
    let marks = guard.watermark(&key(1)).await.unwrap().unwrap();
    assert_eq!((marks.block.unwrap().slot, marks.attestation.unwrap().target), (Slot(50), Epoch(4)));
    let again = guard.authorize(intents.block(key(1), 50, 1), caller()).await.unwrap();
    assert_eq!((again.approval(), again.commit_seq()), (Approval::SameData, 3));
    let other = guard.authorize(intents.block(key(1), 50, 2), caller()).await.unwrap_err();
    assert_eq!(other.reason(), "double_block");
    guard.shutdown().await;

    let options = BindOptions::new(GenesisValidatorsRoot([7; 32]), slot_clock(), home.clock.clone());
    assert!(matches!(open(&home).unwrap().bind(options), Err(OpenError::WrongNetwork { .. })));
}

#[tokio::test]
async fn instances_on_one_database_see_each_other() {
    let first = Home::on_postgres(1_000);
    let second = first.sibling();
    let (one, two) = (first.open(), second.open());
    let intents = Arc::new(Intents::new());
    register_fresh(&one, (0..4).map(key)).await;
    let again = two.register(new_key(key(1)), EntryWatermark::Now, Tombstone::Refuse).await.unwrap();
    assert!(matches!(again, Registered::Duplicate));
    // Both are asked for different blocks of the same slots at once: one root for each key and slot.
    for slot in 1..=25u64 {
        let mut answers = Vec::new();
        for number in 0..4 {
            answers.push((number, one.authorize(intents.block(key(number), slot, 1), caller())));
            answers.push((number, two.authorize(intents.block(key(number), slot, 2), caller())));
        }
        let mut winners = [0; 4];
        for (number, answer) in answers {
            match answer.await {
                Ok(_) => winners[number as usize] += 1,
                Err(refusal) => assert_eq!(refusal.reason(), "double_block", "{refusal}"),
            }
        }
        assert_eq!(winners, [1; 4], "slot {slot}");
    }
    one.switch(&key(2), Switch::Disable, &caller()).await.unwrap();
    let refusal = two.authorize(intents.block(key(2), 100, 1), caller()).await.unwrap_err();
    assert_eq!(refusal.reason(), "key_disabled");
    assert_eq!(two.tombstone(&key(3), &caller()).await.unwrap(), KeyState::Enabled);
    let refusal = one.authorize(intents.block(key(3), 100, 1), caller()).await.unwrap_err();
    assert_eq!(refusal.reason(), "key_disabled");
    assert_eq!(one.active_keys().await.unwrap().len(), 3);
    let instances = two.instances().await.unwrap();
    assert_eq!(instances.len(), 2);
    assert!(instances.iter().all(|instance| instance.head.seq > 0));
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test]
async fn sql_cannot_lower_or_forget_a_watermark() {
    let home = Home::on_postgres(1_000);
    let intents = Intents::new();
    let guard = home.open();
    register_fresh(&guard, [key(1)]).await;
    drop(guard.authorize(intents.block(key(1), 50, 1), caller()).await.unwrap());
    drop(guard.authorize(intents.vote(key(1), 3, 4, 1), caller()).await.unwrap());
    let top = Floor { block: Some(Slot(u64::MAX)), source: Some(Epoch(u64::MAX)), target: Some(Epoch(u64::MAX)) };
    guard.register(new_key(key(2)), EntryWatermark::AtLeast(top), Tombstone::Refuse).await.unwrap();
    assert_eq!(guard.watermark(&key(2)).await.unwrap().unwrap().block.unwrap().slot, Slot(u64::MAX));
    assert_eq!(guard.high_watermarks().await.unwrap().target, Some(Epoch(u64::MAX)));
    guard.shutdown().await;
    let other_root = format!("'\\x{}'", "00".repeat(32));
    let forbidden = [
        "UPDATE holdfast.validators SET max_slot = 49 WHERE max_slot = 50".to_owned(),
        "UPDATE holdfast.validators SET max_slot = NULL, max_slot_root = NULL WHERE max_slot = 50".to_owned(),
        format!("UPDATE holdfast.validators SET max_slot_root = {other_root} WHERE max_slot = 50"),
        "UPDATE holdfast.validators SET max_source = 2 WHERE max_source = 3".to_owned(),
        "UPDATE holdfast.validators SET max_target = 3 WHERE max_target = 4".to_owned(),
        format!("UPDATE holdfast.validators SET attestation_root = {other_root} WHERE max_target = 4"),
        "UPDATE holdfast.validators SET max_slot = 18446744073709551614 WHERE max_slot > 50".to_owned(),
        "UPDATE holdfast.validators SET max_slot = 18446744073709551616 WHERE max_slot > 50".to_owned(),
        "DELETE FROM holdfast.validators".to_owned(),
        "TRUNCATE holdfast.validators CASCADE".to_owned(),
        "UPDATE holdfast.journal SET count = count + 1".to_owned(),
        "UPDATE holdfast.meta SET genesis_validators_root = NULL".to_owned(),
    ];
    for sql in &forbidden {
        assert!(Cluster::shared().sql(&database(&home), sql).is_err(), "{sql}");
    }
}

#[tokio::test]
async fn a_commit_is_waited_for_whatever_became_of_the_session() {
    let home = Home::on_postgres(1_000);
    let intents = Intents::new();
    let guard = home.open();
    register_fresh(&guard, [key(1)]).await;
    // As a pooler in transaction mode does when it takes another connection to the server: the session's settings are gone.
    let seen = "CREATE TABLE public.seen (at serial, setting text); \
         CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO public.seen (setting) VALUES (current_setting('synchronous_commit')); \
         PERFORM set_config('synchronous_commit', 'off', false); RETURN NULL; END $$; \
         CREATE TRIGGER look AFTER INSERT ON holdfast.journal FOR EACH ROW EXECUTE FUNCTION public.look()";
    Cluster::shared().sql(&database(&home), seen).unwrap();
    for slot in 1_000..1_003 {
        drop(guard.authorize(intents.block(key(1), slot, 1), caller()).await.unwrap());
        home.clock.set(start_of(slot + 1));
    }
    let told = "SELECT string_agg(setting, ' ' ORDER BY at) FROM public.seen";
    assert_eq!(Cluster::shared().sql(&database(&home), told).unwrap().trim(), "on on on");
    guard.shutdown().await;
}

#[test]
fn servers_that_may_lose_commits_are_refused_with_the_remedy() {
    let cluster = Cluster::start();
    let home = Home::with_url(1, cluster.url(&cluster.create_database()));
    drop(open(&home).unwrap());
    for setting in ["fsync", "full_page_writes"] {
        cluster.sql("postgres", &format!("ALTER SYSTEM SET {setting} = off")).unwrap();
        cluster.sql("postgres", "SELECT pg_reload_conf()").unwrap();
        // A reload reaches new sessions when it is done.
        let refused = (0..10_000).find_map(|_| open(&home).map(drop).err()).expect("refused");
        let OpenError::ServerSetting { name, .. } = &refused else { panic!("{refused}") };
        assert_eq!(*name, setting);
        assert!(refused.to_string().contains(&format!("ALTER SYSTEM SET {setting} = on")), "{refused}");
        cluster.sql("postgres", &format!("ALTER SYSTEM RESET {setting}")).unwrap();
        cluster.sql("postgres", "SELECT pg_reload_conf()").unwrap();
        assert!((0..10_000).any(|_| open(&home).is_ok()));
    }
    // A session's own default does not matter: it is set and read back.
    cluster.sql("postgres", "ALTER ROLE postgres SET synchronous_commit = off").unwrap();
    drop(open(&home).unwrap());
    let name = database(&home);
    cluster.sql("postgres", &format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).unwrap();
    assert!(matches!(open(&home), Err(OpenError::ReadOnlyServer { .. })));
}

#[test]
fn schemas_of_the_next_version_are_used_and_later_ones_refused() {
    let home = Home::on_postgres(1);
    let examined = SlashingDb::examine_postgres(&home.postgres_options()).unwrap();
    assert_eq!((examined.found, examined.pending().collect::<Vec<_>>()), (0, vec![1, 2, 3, 4, 5, 6, 7]));
    drop(open(&home).unwrap());
    let examined = SlashingDb::examine_postgres(&home.postgres_options()).unwrap();
    assert_eq!((examined.found, examined.pending().count()), (7, 0));
    let sql = |sql: &str| Cluster::shared().sql(&database(&home), sql).unwrap();
    sql("INSERT INTO holdfast.schema_version VALUES (8, 7)");
    drop(open(&home).unwrap());
    sql("INSERT INTO holdfast.schema_version VALUES (9, 8)");
    assert!(matches!(open(&home), Err(OpenError::NewerSchema { found: 9, .. })));
}

#[test]
fn of_many_signers_started_together_one_migrates() {
    let home = Home::on_postgres(1);
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..6).map(|_| scope.spawn(|| open(&home.sibling()).map(drop))).collect();
        for start in started {
            start.join().unwrap().unwrap();
        }
    });
    assert_eq!(Cluster::shared().sql(&database(&home), "SELECT count(*) FROM holdfast.schema_version").unwrap(), "7");
}

#[tokio::test]
async fn a_running_signer_does_everything_under_the_next_schema() {
    let home = Home::on_postgres(1_000);
    let (guard, intents) = (home.open(), Intents::new());
    // Everything is prepared on its connections before the change, and used after it.
    for (round, slot) in [(0, 1), (1, 2)] {
        register_fresh(&guard, [key(1 + 10 * round), key(2 + 10 * round)]).await;
        until_served(&guard, &intents, slot).await;
        guard.switch(&key(2 + 10 * round), Switch::Disable, &caller()).await.unwrap();
        assert_eq!(guard.list().await.unwrap().len(), 2 + 2 * round as usize);
        assert_eq!(guard.active_keys().await.unwrap().len(), 2 + 2 * round as usize);
        assert_eq!(guard.instances().await.unwrap().len(), 1);
        assert!(guard.fence(Some(vec![key(2)]), &caller()).await.is_ok());
        if round == 0 {
            let sql = "BEGIN; ALTER TABLE holdfast.validators ADD COLUMN later text; \
                 ALTER TABLE holdfast.journal ADD COLUMN later bigint NOT NULL DEFAULT 7; \
                 ALTER TABLE holdfast.sealed_keys ADD COLUMN later bytea; ALTER TABLE holdfast.instances ADD COLUMN later text; \
                 ALTER TABLE holdfast.key_records ADD COLUMN later boolean NOT NULL DEFAULT false; \
                 INSERT INTO holdfast.schema_version SELECT max(version) + 1, max(version) FROM holdfast.schema_version; COMMIT";
            Cluster::shared().sql(&database(&home), sql).unwrap();
        }
    }
    assert_eq!(guard.health(), GuardHealth::Serving);
    guard.shutdown().await;
}

#[tokio::test]
async fn lost_connections_are_replaced_without_a_restart() {
    let home = Home::on_postgres(1_000);
    let (guard, intents) = (home.open(), Intents::new());
    register_fresh(&guard, [key(1)]).await;
    for slot in 1..=5 {
        until_served(&guard, &intents, slot).await;
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'holdfast %' AND datname = current_database()";
        Cluster::shared().sql(&database(&home), sql).unwrap();
    }
    until_served(&guard, &intents, 6).await;
    assert_eq!(guard.list().await.unwrap().len(), 1);
    assert_eq!(guard.health(), GuardHealth::Serving);
    guard.shutdown().await;
}

#[tokio::test]
async fn a_hung_server_is_refused_in_time_and_used_again_when_it_is_back() {
    let cluster = Cluster::shared();
    let proxy = Proxy::before(&cluster.socket_dir);
    let home = Home::with_url(1_000, url_at(proxy.directory(), &cluster.create_database()));
    let mut options = home.postgres_options();
    options.statement_timeout = Duration::from_millis(300);
    options.connect_timeout = Duration::from_millis(300);
    let mut bind = BindOptions::new(chain(), slot_clock(), home.clock.clone());
    bind.anchor = options.anchor.clone();
    let guard = SlashingDb::open_postgres(&options).unwrap().bind(bind).unwrap();
    let intents = Intents::new();
    register_fresh(&guard, [key(1)]).await;
    assert_eq!(until_served(&guard, &intents, 1).await, 1);
    proxy.set(Wire::Silent);
    for _ in 0..3 {
        let refusal = guard.authorize(intents.block(key(1), 2, 1), caller()).await.unwrap_err();
        assert_eq!(refusal.reason(), "database_unavailable");
    }
    proxy.set(Wire::Open);
    assert_eq!(until_served(&guard, &intents, 3).await, 2);
    assert_eq!(guard.health(), GuardHealth::Serving);
    guard.shutdown().await;
}

#[tokio::test]
async fn a_commit_without_an_answer_gives_no_permit_and_is_looked_up() {
    let cluster = Cluster::shared();
    for (kept, wire) in [(true, Wire::CutAfterCommit), (false, Wire::CutBeforeCommit)] {
        let proxy = Proxy::before(&cluster.socket_dir);
        let home = Home::with_url(1_000, url_at(proxy.directory(), &cluster.create_database()));
        let (guard, intents) = (home.open(), Intents::new());
        register_fresh(&guard, [key(1)]).await;
        assert_eq!(until_served(&guard, &intents, 1).await, 1);
        proxy.set(wire);
        let refusal = guard.authorize(intents.block(key(1), 2, 1), caller()).await.unwrap_err();
        assert_eq!(refusal.reason(), "database_unavailable");
        proxy.set(Wire::Open);
        let seq = until_served(&guard, &intents, 3).await;
        assert_eq!(seq, if kept { 3 } else { 2 }, "kept: {kept}");
        // What was refused stays refused once the watermark has passed it, kept or not.
        let refusal = guard.authorize(intents.block(key(1), 2, 2), caller()).await.unwrap_err();
        assert_eq!(refusal.reason(), "block_slot_below_watermark");
        assert_eq!(guard.health(), GuardHealth::Serving);
        guard.shutdown().await;
        // The restart agrees with the anchor.
        assert_eq!(home.open().health(), GuardHealth::Serving);
    }
}

#[tokio::test]
async fn a_journal_cut_behind_the_back_of_a_signer_stops_it() {
    let home = Home::on_postgres(1_000);
    let (guard, intents) = (home.open(), Intents::new());
    register_fresh(&guard, [key(1)]).await;
    until_served(&guard, &intents, 1).await;
    until_served(&guard, &intents, 2).await;
    Cluster::shared().sql(&database(&home), "DELETE FROM holdfast.journal WHERE seq = 2").unwrap();
    let refusal = guard.authorize(intents.block(key(1), 3, 1), caller()).await.unwrap_err();
    assert_eq!(refusal.reason(), "protection_frozen");
    assert_ne!(guard.health(), GuardHealth::Serving);
}

/// What the database has lost: the last batch of the only journal, and the block of key 1 that it was about.
fn lose_the_block_of_slot_2(home: &Home) {
    let sql = "DELETE FROM holdfast.journal WHERE seq = 2; ALTER TABLE holdfast.validators DISABLE TRIGGER USER; \
         UPDATE holdfast.validators SET max_slot = 1, max_slot_root = NULL WHERE max_slot = 2; \
         ALTER TABLE holdfast.validators ENABLE TRIGGER USER";
    Cluster::shared().sql(&database(home), sql).unwrap();
}

/// A signer whose database has lost its block of slot 2. It has not looked since, or it has just noticed.
async fn robbed(home: &Home, intents: &Intents) -> Guard {
    robbed_behind(home, intents, || {}).await
}

/// The same, and something that happens before the loss.
async fn robbed_behind(home: &Home, intents: &Intents, before: impl FnOnce()) -> Guard {
    let guard = home.open();
    register_fresh(&guard, [key(1), key(2)]).await;
    until_served(&guard, intents, 1).await;
    until_served(&guard, intents, 2).await;
    before();
    lose_the_block_of_slot_2(home);
    guard
}

/// Why blocks and attestations are stopped; `None` if they are not.
fn stopped_by(guard: &Guard) -> Option<RollbackKind> {
    match guard.health() {
        GuardHealth::Serving => None,
        GuardHealth::Suspect(suspicion) => Some(suspicion.kind),
        GuardHealth::Frozen { reason } => panic!("frozen for good: {reason}"),
    }
}

async fn until_stopped_by(guard: &Guard, wanted: Option<RollbackKind>) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while stopped_by(guard) != wanted {
        assert!(Instant::now() < deadline, "it did not become {wanted:?}: {:?}", guard.health());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_one_instance_remembers_stops_the_others() {
    let first = Home::on_postgres(1_000);
    let second = first.sibling();
    let intents = Intents::new();
    let one = robbed(&first, &intents).await;
    // It has seen nothing of what is lost.
    let two = second.open();
    let refusal = one.authorize(intents.block(key(1), 3, 1), caller()).await.unwrap_err();
    assert_eq!(refusal.reason(), "protection_frozen");
    assert_eq!(stopped_by(&one), Some(RollbackKind::JournalShorter));

    // Another block of the slot that is lost, and a key of which nothing is.
    for intent in [intents.block(key(1), 2, 2), intents.vote(key(2), 3, 4, 1)] {
        let refusal = two.authorize(intent, caller()).await.unwrap_err();
        assert_eq!(refusal.reason(), "protection_frozen");
    }
    assert_eq!(stopped_by(&two), Some(RollbackKind::PeerSuspects));
    let GuardHealth::Suspect(suspicion) = two.health() else { panic!("it is stopped") };
    assert_eq!((suspicion.since, suspicion.expected), (start_of(1_000), Some(suspicion.found)));
    drop(two.authorize(intents.randao(key(1), 30), caller()).await.unwrap());
    assert!(two.instances().await.unwrap().iter().any(|instance| instance.suspects == Some(start_of(1_000))));
    let overview = SlashingDb::overview_postgres(&second.postgres_options()).unwrap();
    assert_eq!(overview.instances.iter().filter(|instance| instance.suspects.is_some()).count(), 1);
    assert!(two.export(None, holdfast_slashing_db::Then::Keep, &caller()).await.is_err());

    // It is in the database, so whoever starts finds it.
    two.shutdown().await;
    let two = second.open();
    assert_eq!(stopped_by(&two), Some(RollbackKind::PeerSuspects));
    assert_eq!(two.authorize(intents.block(key(1), 2, 2), caller()).await.unwrap_err().reason(), "protection_frozen");

    // A key that is fenced signs again, and no other.
    assert_eq!(two.fence(Some(vec![key(1)]), &caller()).await.unwrap(), 1);
    first.clock.set(start_of(1_010));
    let refusal = two.authorize(intents.block(key(1), 2, 2), caller()).await.unwrap_err();
    assert_eq!(refusal.reason(), "block_slot_below_watermark");
    drop(two.authorize(intents.block(key(1), 1_005, 1), caller()).await.unwrap());
    let refusal = two.authorize(intents.block(key(2), 1_005, 1), caller()).await.unwrap_err();
    assert_eq!(refusal.reason(), "protection_frozen");
    assert_eq!(stopped_by(&two), Some(RollbackKind::PeerSuspects));

    // A fence of all keys lets everybody go on who noticed nothing himself.
    let third = first.sibling();
    let three = third.open();
    assert_eq!(stopped_by(&three), Some(RollbackKind::PeerSuspects));
    assert_eq!(two.fence(None, &caller()).await.unwrap(), 2);
    assert_eq!(stopped_by(&two), None);
    until_stopped_by(&three, None).await;
    assert_eq!(stopped_by(&one), Some(RollbackKind::JournalShorter));
    first.clock.set(start_of(1_020));
    drop(two.authorize(intents.block(key(2), 1_015, 1), caller()).await.unwrap());
    drop(three.authorize(intents.block(key(2), 1_016, 1), caller()).await.unwrap());

    // Who did stays as it is, and does not stop the others once more with what they are fenced against.
    one.shutdown().await;
    let one = first.open();
    assert_eq!(stopped_by(&one), Some(RollbackKind::JournalShorter));
    drop(three.authorize(intents.block(key(2), 1_017, 1), caller()).await.unwrap());
    assert_eq!(stopped_by(&three), None);
    assert_eq!(one.fence(None, &caller()).await.unwrap(), 2);
    assert_eq!(stopped_by(&one), None);
    for guard in [one, two, three] {
        guard.shutdown().await;
    }
    assert_eq!(stopped_by(&first.open()), None);
}

#[tokio::test]
async fn a_fence_leaves_the_suspicion_of_a_later_moment() {
    let first = Home::on_postgres(1_000);
    let intents = Intents::new();
    let one = robbed(&first, &intents).await;
    assert!(one.authorize(intents.block(key(1), 3, 1), caller()).await.is_err());
    // A clock that is behind the one of who noticed.
    let second = Home { clock: support::SetClock::at(start_of(900)), ..first.sibling() };
    let two = second.open();
    assert_eq!(two.fence(None, &caller()).await.unwrap(), 2);
    assert_eq!(stopped_by(&two), Some(RollbackKind::PeerSuspects));
    second.clock.set(start_of(910));
    let refusal = two.authorize(intents.block(key(2), 905, 1), caller()).await.unwrap_err();
    assert_eq!(refusal.reason(), "protection_frozen");
    second.clock.set(start_of(1_000));
    assert_eq!(two.fence(None, &caller()).await.unwrap(), 2);
    assert_eq!(stopped_by(&two), None);
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test]
async fn suspicion_that_cannot_be_written_at_once_is_written_later() {
    let first = Home::on_postgres(1_000);
    let second = first.sibling();
    let (intents, sql) = (Intents::new(), |sql: &str| Cluster::shared().sql(&database(&first), sql).unwrap());
    let one = robbed_behind(&first, &intents, || {
        sql("CREATE FUNCTION holdfast.away() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'away'; END$$; \
             CREATE TRIGGER away BEFORE UPDATE OF suspect_since_ms ON holdfast.instances \
             FOR EACH ROW EXECUTE FUNCTION holdfast.away()");
    })
    .await;
    until_stopped_by(&one, Some(RollbackKind::JournalShorter)).await;
    let two = second.open();
    assert_eq!(stopped_by(&two), None, "nobody could tell it");
    sql("DROP TRIGGER away ON holdfast.instances");
    until_stopped_by(&two, Some(RollbackKind::PeerSuspects)).await;
    assert_eq!(two.authorize(intents.block(key(1), 2, 2), caller()).await.unwrap_err().reason(), "protection_frozen");
    one.shutdown().await;
    two.shutdown().await;
}

/// What ADR 0009 says of it: a new data directory remembers nothing, so after a loss a fence comes first.
#[tokio::test]
async fn a_new_instance_remembers_nothing_and_suspects_nothing() {
    let first = Home::on_postgres(1_000);
    let intents = Intents::new();
    robbed(&first, &intents).await.shutdown().await;
    // Whether or not the one that lost its block noticed before it was stopped is not what is asked here.
    Cluster::shared().sql(&database(&first), "UPDATE holdfast.instances SET suspect_since_ms = NULL").unwrap();
    let second = first.sibling();
    let two = second.open();
    assert_eq!(stopped_by(&two), None);
    // The watermarks protect it from what the database still knows, and from nothing else.
    assert!(two.authorize(intents.block(key(1), 1, 2), caller()).await.is_err());
    drop(two.authorize(intents.block(key(1), 2, 2), caller()).await.unwrap());
    assert_eq!(two.fence(None, &caller()).await.unwrap(), 2);
    let refusal = two.authorize(intents.block(key(1), 3, 1), caller()).await.unwrap_err();
    assert_eq!(refusal.reason(), "block_slot_below_watermark");
    two.shutdown().await;

    // An emptied directory is a new one.
    std::fs::remove_file(second.folder().join("anchor")).unwrap();
    let two = second.open();
    assert_eq!(stopped_by(&two), None);
    assert_eq!(two.instances().await.unwrap().len(), 3);
    two.shutdown().await;
}
