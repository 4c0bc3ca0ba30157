-- Holdfast slashing database for PostgreSQL 14 and later, schema version 1.
--
-- Everything is in a schema of its own, so that the database may hold other programs' tables as well.
-- Slots and epochs are unsigned 64-bit numbers, stored as numeric(20, 0): every value fits, comparisons are
-- right, and people can read them.

CREATE SCHEMA IF NOT EXISTS holdfast;

-- A program that knows schema n works with a newer schema if n is at least its `oldest_program`. Migrations
-- only add, so that the version before and the version after run side by side during an upgrade.
CREATE TABLE holdfast.schema_version (
    version        integer PRIMARY KEY,
    oldest_program integer NOT NULL
);
INSERT INTO holdfast.schema_version (version, oldest_program) VALUES (1, 1);

CREATE TABLE holdfast.meta (
    id                      integer PRIMARY KEY CHECK (id = 1),
    genesis_validators_root bytea CHECK (length(genesis_validators_root) = 32)
);
INSERT INTO holdfast.meta (id) VALUES (1);

-- Signers that use this database. One row per data directory.
CREATE TABLE holdfast.instances (
    id           bytea PRIMARY KEY CHECK (length(id) = 16),
    host         text NOT NULL,
    version      text NOT NULL,
    started_ms   bigint NOT NULL,
    last_seen_ms bigint NOT NULL
);

-- One row per key, for ever: what the rules need, and nothing else.
CREATE TABLE holdfast.validators (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pubkey           bytea NOT NULL UNIQUE CHECK (length(pubkey) = 48),
    state            smallint NOT NULL CHECK (state IN (0, 1, 2)), -- enabled, disabled, tombstoned
    max_slot         numeric(20, 0) CHECK (max_slot BETWEEN 0 AND 18446744073709551615),
    max_slot_root    bytea CHECK (length(max_slot_root) = 32),
    max_source       numeric(20, 0) CHECK (max_source BETWEEN 0 AND 18446744073709551615),
    max_target       numeric(20, 0) CHECK (max_target BETWEEN 0 AND 18446744073709551615),
    attestation_root bytea CHECK (length(attestation_root) = 32),
    CHECK (max_slot_root IS NULL OR max_slot IS NOT NULL),
    CHECK ((max_source IS NULL) = (max_target IS NULL)),
    CHECK (attestation_root IS NULL OR max_target IS NOT NULL)
) WITH (fillfactor = 50); -- room for the new version of a row on its own page

-- Where a key came from, and who changed it last.
CREATE TABLE holdfast.key_records (
    id         bigint PRIMARY KEY REFERENCES holdfast.validators (id),
    origin     smallint CHECK (origin IN (0, 1)), -- imported, generated
    label      text,
    created_ms bigint NOT NULL,
    created_by text NOT NULL,
    changed_ms bigint NOT NULL,
    changed_by text NOT NULL
);

-- Sealed secrets, opaque here.
CREATE TABLE holdfast.sealed_keys (
    id     bigint PRIMARY KEY REFERENCES holdfast.validators (id),
    sealed bytea NOT NULL
);

-- Data keys as wrapped by their provider, opaque here.
CREATE TABLE holdfast.data_keys (
    id        integer PRIMARY KEY CHECK (id >= 0),
    provider  text NOT NULL,
    wrapped   bytea NOT NULL,
    stored_ms bigint NOT NULL
);

-- The journal: one row per commit, one chain per instance. The primary key is what makes sure that of two
-- attempts at one number only one is ever kept.
CREATE TABLE holdfast.journal (
    instance    bytea NOT NULL REFERENCES holdfast.instances (id),
    seq         bigint NOT NULL CHECK (seq > 0),
    time_ms     bigint NOT NULL,
    prev_hash   bytea NOT NULL CHECK (length(prev_hash) = 32),
    merkle_root bytea NOT NULL CHECK (length(merkle_root) = 32),
    hash        bytea NOT NULL CHECK (length(hash) = 32),
    count       bigint NOT NULL CHECK (count > 0),
    entries     bytea NOT NULL,
    PRIMARY KEY (instance, seq)
);

CREATE FUNCTION holdfast.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'check_violation';
END $$;

-- A second line behind the rules: a watermark never falls, and the root signed at it never becomes another.
CREATE TRIGGER validators_never_fall BEFORE UPDATE ON holdfast.validators FOR EACH ROW
WHEN ((OLD.max_slot IS NOT NULL
       AND (NEW.max_slot IS NULL
            OR NEW.max_slot < OLD.max_slot
            OR (NEW.max_slot = OLD.max_slot AND NEW.max_slot_root <> coalesce(OLD.max_slot_root, ''::bytea))))
   OR (OLD.max_target IS NOT NULL
       AND (NEW.max_target IS NULL
            OR NEW.max_target < OLD.max_target
            OR NEW.max_source < OLD.max_source
            OR (NEW.max_target = OLD.max_target
                AND NEW.attestation_root <> coalesce(OLD.attestation_root, ''::bytea)))))
EXECUTE FUNCTION holdfast.refuse('a slashing watermark may never be lowered');

CREATE TRIGGER validators_keep_their_key BEFORE UPDATE ON holdfast.validators FOR EACH ROW
WHEN (NEW.id <> OLD.id OR NEW.pubkey <> OLD.pubkey)
EXECUTE FUNCTION holdfast.refuse('a row belongs to one key for ever');

CREATE TRIGGER validators_stay BEFORE DELETE ON holdfast.validators FOR EACH ROW
EXECUTE FUNCTION holdfast.refuse('a row with slashing watermarks may never be deleted');

CREATE TRIGGER validators_are_not_emptied BEFORE TRUNCATE ON holdfast.validators
EXECUTE FUNCTION holdfast.refuse('rows with slashing watermarks may never be deleted');

CREATE TRIGGER meta_stays_pinned BEFORE UPDATE ON holdfast.meta FOR EACH ROW
WHEN (OLD.genesis_validators_root IS NOT NULL
      AND NEW.genesis_validators_root IS DISTINCT FROM OLD.genesis_validators_root)
EXECUTE FUNCTION holdfast.refuse('the chain of a database never changes');

CREATE TRIGGER journal_is_append_only BEFORE UPDATE ON holdfast.journal FOR EACH ROW
EXECUTE FUNCTION holdfast.refuse('a journal batch may never be changed');

-- Writes what one batch decided. Raises unless it runs in the transaction that locked the rows and changes
-- exactly those.
CREATE FUNCTION holdfast.commit_batch(
    p_transaction text,
    p_ids bigint[], p_slots numeric[], p_slot_roots bytea[],
    p_sources numeric[], p_targets numeric[], p_vote_roots bytea[],
    p_instance bytea, p_seq bigint, p_time_ms bigint, p_prev_hash bytea, p_merkle_root bytea, p_hash bytea,
    p_count bigint, p_entries bytea
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    changed bigint;
BEGIN
    IF pg_current_xact_id()::text <> p_transaction THEN
        RAISE EXCEPTION 'this is not the transaction that locked the rows' USING ERRCODE = 'invalid_transaction_state';
    END IF;
    UPDATE holdfast.validators v
    SET max_slot = u.slot, max_slot_root = u.slot_root,
        max_source = u.source, max_target = u.target, attestation_root = u.vote_root
    FROM unnest(p_ids, p_slots, p_slot_roots, p_sources, p_targets, p_vote_roots)
         AS u (id, slot, slot_root, source, target, vote_root)
    WHERE v.id = u.id;
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> cardinality(p_ids) THEN
        RAISE EXCEPTION '% rows changed instead of %', changed, cardinality(p_ids) USING ERRCODE = 'check_violation';
    END IF;
    INSERT INTO holdfast.journal (instance, seq, time_ms, prev_hash, merkle_root, hash, count, entries)
    VALUES (p_instance, p_seq, p_time_ms, p_prev_hash, p_merkle_root, p_hash, p_count, p_entries);
    UPDATE holdfast.instances SET last_seen_ms = p_time_ms WHERE id = p_instance;
END $$;
