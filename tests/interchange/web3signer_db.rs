//! A database as Web3Signer leaves it (schema version 12), on a real PostgreSQL, and Web3Signer's own rules over
//! it. Functions and triggers of that schema are left out: who only reads never meets them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use holdfast_tests::postgres::{Cluster, Session};
use holdfast_tests::world::GENESIS_VALIDATORS_ROOT;

use crate::support::cluster;

const TABLES: &str = "
    CREATE TABLE database_version (id integer PRIMARY KEY, version integer NOT NULL);
    CREATE TABLE metadata (id integer PRIMARY KEY, genesis_validators_root bytea NOT NULL,
        high_watermark_epoch numeric(20), high_watermark_slot numeric(20));
    CREATE TABLE validators (id serial PRIMARY KEY, public_key bytea NOT NULL UNIQUE, enabled boolean NOT NULL DEFAULT true);
    CREATE TABLE low_watermarks (validator_id integer NOT NULL UNIQUE REFERENCES validators,
        slot numeric(20), target_epoch numeric(20), source_epoch numeric(20),
        CHECK ((target_epoch IS NULL) = (source_epoch IS NULL)));
    CREATE TABLE signed_blocks (id bigserial PRIMARY KEY, validator_id integer NOT NULL REFERENCES validators,
        slot numeric(20) NOT NULL, signing_root bytea, UNIQUE (validator_id, slot));
    CREATE TABLE signed_attestations (id bigserial PRIMARY KEY, validator_id integer REFERENCES validators,
        source_epoch numeric(20) NOT NULL, target_epoch numeric(20) NOT NULL, signing_root bytea,
        UNIQUE (validator_id, target_epoch));
    INSERT INTO database_version VALUES (1, 12)";

/// Everything in the tables and where it lies: a row that was touched, or only locked, shows.
const FINGERPRINT: &str = "
    SELECT 'database_version', xmin::text, xmax::text, ctid::text, t::text FROM database_version t UNION ALL
    SELECT 'metadata', xmin::text, xmax::text, ctid::text, t::text FROM metadata t UNION ALL
    SELECT 'validators', xmin::text, xmax::text, ctid::text, t::text FROM validators t UNION ALL
    SELECT 'low_watermarks', xmin::text, xmax::text, ctid::text, t::text FROM low_watermarks t UNION ALL
    SELECT 'signed_blocks', xmin::text, xmax::text, ctid::text, t::text FROM signed_blocks t UNION ALL
    SELECT 'signed_attestations', xmin::text, xmax::text, ctid::text, t::text FROM signed_attestations t UNION ALL
    SELECT 'relation', '', '', '', oid || ' ' || relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
    ORDER BY 1, 5";

/// What one validator signed there. Roots are `None` where Web3Signer has none.
#[derive(Clone, Default)]
pub(crate) struct Signed {
    pub(crate) low: Option<(u64, u64, u64)>,
    pub(crate) blocks: BTreeMap<u64, Option<u8>>,
    /// Source and root by target.
    pub(crate) votes: BTreeMap<u64, (u64, Option<u8>)>,
}

/// Its high watermark: slot and epoch.
pub(crate) type High = Option<(u64, u64)>;

impl Signed {
    /// Whether Web3Signer would refuse a new block, one that it has not signed at this slot.
    pub(crate) fn refuses_block(&self, slot: u64, high: High) -> bool {
        high.is_some_and(|(high, _)| slot >= high)
            || self.low.is_some_and(|(low, ..)| slot < low)
            || self.blocks.contains_key(&slot)
    }

    /// Whether Web3Signer would refuse a new vote, one that it has not signed for this target.
    pub(crate) fn refuses_vote(&self, source: u64, target: u64, high: High) -> bool {
        source > target
            || high.is_some_and(|(_, high)| source >= high || target >= high)
            || self.low.is_some_and(|(_, low_source, low_target)| source < low_source || target < low_target)
            || self.votes.iter().any(|(&other, &(from, _))| {
                other == target || (from < source && target < other) || (source < from && other < target)
            })
    }

    /// The highest slot, source and target there is any trace of.
    pub(crate) fn highest(&self) -> (Option<u64>, Option<u64>, Option<u64>) {
        let low = |pick: fn((u64, u64, u64)) -> u64| self.low.map(pick);
        (
            low(|(slot, ..)| slot).max(self.blocks.keys().max().copied()),
            low(|(_, source, _)| source).max(self.votes.values().map(|(source, _)| *source).max()),
            low(|(.., target)| target).max(self.votes.keys().max().copied()),
        )
    }
}

/// A database of Web3Signer.
pub(crate) struct Database {
    cluster: &'static Cluster,
    name: String,
    session: Session,
}

impl Database {
    /// A new one for the world's chain, with nothing signed.
    pub(crate) fn new() -> Self {
        let mut database = Self::empty();
        database.sql(TABLES);
        let root = hex::encode(GENESIS_VALIDATORS_ROOT);
        database.sql(&format!("INSERT INTO metadata VALUES (1, '\\x{root}')"));
        database
    }

    /// One without any table.
    pub(crate) fn empty() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let cluster = cluster();
        let name = format!("web3signer_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        cluster.create_database(&name);
        let session = cluster.session_on(&cluster.url_for(cluster.addr(), &name));
        Self { cluster, name, session }
    }

    /// Its address, with the password of its owner.
    pub(crate) fn url(&self) -> String {
        self.cluster.url_for(self.cluster.addr(), &self.name)
    }

    /// Its address in Web3Signer's form, its role and that role's password.
    pub(crate) fn jdbc(&self) -> (String, String, String) {
        let url = self.url();
        let (role, place) = url.trim_start_matches("postgres://").split_once('@').expect("a role");
        let (role, password) = role.split_once(':').expect("a password");
        (format!("jdbc:postgresql://{place}"), role.to_owned(), password.to_owned())
    }

    /// Its address for another role.
    pub(crate) fn url_as(&self, role: &str, password: &str) -> String {
        format!("postgres://{role}:{password}@{}/{}?sslmode=disable", self.cluster.addr(), self.name)
    }

    /// A connection that calls itself `program`.
    pub(crate) fn connected_as(&self, program: &str) -> Session {
        let mut session = self.cluster.session_on(&self.url());
        session.run(&format!("SET application_name = '{program}'")).expect("the server runs");
        session
    }

    pub(crate) fn sql(&mut self, sql: &str) -> Vec<Vec<String>> {
        self.session.run(sql).unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    /// Adds a validator and what it signed.
    pub(crate) fn add(&mut self, key: &str, enabled: bool, signed: &Signed) {
        let key = key.trim_start_matches("0x");
        let mut sql = format!("INSERT INTO validators (public_key, enabled) VALUES ('\\x{key}', {enabled});");
        let id = format!("(SELECT id FROM validators WHERE public_key = '\\x{key}')");
        let root =
            |root: Option<u8>| root.map_or("NULL".to_owned(), |byte| format!("'\\x{}'", hex::encode([byte; 32])));
        if let Some((slot, source, target)) = signed.low {
            sql.push_str(&format!(
                "INSERT INTO low_watermarks (validator_id, slot, source_epoch, target_epoch) VALUES ({id}, {slot}, {source}, {target});"
            ));
        }
        for (slot, own) in &signed.blocks {
            let own = root(*own);
            sql.push_str(&format!(
                "INSERT INTO signed_blocks (validator_id, slot, signing_root) VALUES ({id}, {slot}, {own});"
            ));
        }
        for (target, (source, own)) in &signed.votes {
            let own = root(*own);
            sql.push_str(&format!(
                "INSERT INTO signed_attestations (validator_id, source_epoch, target_epoch, signing_root) \
                 VALUES ({id}, {source}, {target}, {own});"
            ));
        }
        self.sql(&sql);
    }

    /// All there is in it.
    pub(crate) fn fingerprint(&mut self) -> Vec<Vec<String>> {
        self.sql(FINGERPRINT)
    }
}
