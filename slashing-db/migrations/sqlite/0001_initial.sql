-- Holdfast slashing database for SQLite, schema version 1.
--
-- Slots and epochs are unsigned 64-bit numbers stored as the signed integer with the same bits, so that
-- every value fits. `a < b` as unsigned is written ((a < b) <> ((a < 0) <> (b < 0))).

CREATE TABLE schema_version (
    version INTEGER PRIMARY KEY
) STRICT;
INSERT INTO schema_version (version) VALUES (1);

CREATE TABLE meta (
    id                      INTEGER PRIMARY KEY CHECK (id = 1),
    instance                BLOB NOT NULL CHECK (length(instance) = 16),
    genesis_validators_root BLOB CHECK (length(genesis_validators_root) = 32)
) STRICT;

-- One row per key, for ever: what the rules need, and nothing else, so that a slot touches few pages.
CREATE TABLE validators (
    id               INTEGER PRIMARY KEY CHECK (id > 0),
    pubkey           BLOB NOT NULL UNIQUE CHECK (length(pubkey) = 48),
    state            INTEGER NOT NULL CHECK (state IN (0, 1, 2)), -- enabled, disabled, tombstoned
    max_slot         INTEGER,
    max_slot_root    BLOB CHECK (length(max_slot_root) = 32),
    max_source       INTEGER,
    max_target       INTEGER,
    attestation_root BLOB CHECK (length(attestation_root) = 32),
    CHECK (max_slot_root IS NULL OR max_slot IS NOT NULL),
    CHECK ((max_source IS NULL) = (max_target IS NULL)),
    CHECK (attestation_root IS NULL OR max_target IS NOT NULL)
) STRICT;

-- Where a key came from, and who changed it last.
CREATE TABLE key_records (
    id         INTEGER PRIMARY KEY REFERENCES validators (id),
    origin     INTEGER CHECK (origin IN (0, 1)), -- imported, generated
    label      TEXT,
    created_ms INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    changed_ms INTEGER NOT NULL,
    changed_by TEXT NOT NULL
) STRICT;

-- Sealed secrets, opaque here. Apart from the watermarks because they are large and hardly ever change.
CREATE TABLE sealed_keys (
    id     INTEGER PRIMARY KEY REFERENCES validators (id),
    sealed BLOB NOT NULL
) STRICT;

-- Data keys as wrapped by their provider, opaque here.
CREATE TABLE data_keys (
    id        INTEGER PRIMARY KEY,
    provider  TEXT NOT NULL,
    wrapped   BLOB NOT NULL,
    stored_ms INTEGER NOT NULL
) STRICT;

-- The journal: one row per commit.
CREATE TABLE journal (
    seq         INTEGER PRIMARY KEY CHECK (seq > 0),
    instance    BLOB NOT NULL CHECK (length(instance) = 16),
    time_ms     INTEGER NOT NULL,
    prev_hash   BLOB NOT NULL CHECK (length(prev_hash) = 32),
    merkle_root BLOB NOT NULL CHECK (length(merkle_root) = 32),
    hash        BLOB NOT NULL CHECK (length(hash) = 32),
    count       INTEGER NOT NULL CHECK (count > 0),
    entries     BLOB NOT NULL
) STRICT;

-- A second line behind the rules: a watermark never falls, and the root signed at it never becomes another.
CREATE TRIGGER validators_never_fall BEFORE UPDATE ON validators
WHEN (OLD.max_slot IS NOT NULL
      AND (NEW.max_slot IS NULL
           OR (NEW.max_slot < OLD.max_slot) <> ((NEW.max_slot < 0) <> (OLD.max_slot < 0))
           OR (NEW.max_slot = OLD.max_slot AND NEW.max_slot_root <> coalesce(OLD.max_slot_root, x''))))
  OR (OLD.max_target IS NOT NULL
      AND (NEW.max_target IS NULL
           OR (NEW.max_target < OLD.max_target) <> ((NEW.max_target < 0) <> (OLD.max_target < 0))
           OR (NEW.max_source < OLD.max_source) <> ((NEW.max_source < 0) <> (OLD.max_source < 0))
           OR (NEW.max_target = OLD.max_target AND NEW.attestation_root <> coalesce(OLD.attestation_root, x''))))
BEGIN
    SELECT raise(ABORT, 'a slashing watermark may never be lowered');
END;

CREATE TRIGGER validators_keep_their_key BEFORE UPDATE OF id, pubkey ON validators
WHEN NEW.id <> OLD.id OR NEW.pubkey <> OLD.pubkey
BEGIN
    SELECT raise(ABORT, 'a row belongs to one key for ever');
END;

CREATE TRIGGER validators_stay BEFORE DELETE ON validators
BEGIN
    SELECT raise(ABORT, 'a row with slashing watermarks may never be deleted');
END;

CREATE TRIGGER meta_stays_pinned BEFORE UPDATE ON meta
WHEN NEW.instance <> OLD.instance
  OR (OLD.genesis_validators_root IS NOT NULL
      AND NEW.genesis_validators_root IS NOT OLD.genesis_validators_root)
BEGIN
    SELECT raise(ABORT, 'the chain and the instance of a database never change');
END;

CREATE TRIGGER journal_is_append_only BEFORE UPDATE ON journal
BEGIN
    SELECT raise(ABORT, 'a journal batch may never be changed');
END;
