-- Schema version 7: an instance that suspects this database of having lost commits says so here, and stops the others.
-- Programs of older versions neither write nor heed it: upgrade every signer before relying on it.

INSERT INTO holdfast.schema_version (version, oldest_program) VALUES (7, 1);

-- Since when the instance suspects the database, by its clock; and the suspicion, by its moment, that a fence of every
-- key has ended: the instance itself remembers it, in its data directory, until a fence of its own.
ALTER TABLE holdfast.instances
    ADD COLUMN suspect_since_ms bigint,
    ADD COLUMN fenced_since_ms bigint;
