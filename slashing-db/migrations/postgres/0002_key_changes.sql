-- Schema version 2: a counter by which an instance notices that another one brought in, deleted or switched keys.
-- Triggers count, so that changes made by programs of schema version 1, or by hand, count too. What is counted
-- may leave the keys as they were: a fence, for one.

ALTER TABLE holdfast.meta ADD COLUMN key_changes bigint NOT NULL DEFAULT 0;

CREATE FUNCTION holdfast.count_key_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE holdfast.meta SET key_changes = key_changes + 1 WHERE id = 1;
    RETURN NULL;
END $$;

CREATE TRIGGER sealed_keys_are_counted AFTER INSERT OR UPDATE OR DELETE ON holdfast.sealed_keys
FOR EACH STATEMENT EXECUTE FUNCTION holdfast.count_key_change();

-- Signing never names this column, so it never counts.
CREATE TRIGGER states_are_counted AFTER UPDATE OF state ON holdfast.validators
FOR EACH STATEMENT EXECUTE FUNCTION holdfast.count_key_change();

INSERT INTO holdfast.schema_version (version, oldest_program) VALUES (2, 1);
