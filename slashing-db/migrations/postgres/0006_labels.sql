-- Schema version 6: labels of keys, by which rules of the policy select them.

INSERT INTO holdfast.schema_version (version, oldest_program) VALUES (6, 1);

CREATE TABLE holdfast.key_labels (
    id    bigint NOT NULL REFERENCES holdfast.validators (id),
    label text NOT NULL CHECK (length(label) BETWEEN 1 AND 64),
    PRIMARY KEY (id, label)
);

-- Other signers on this database read the labels again when the number of changes is another one.
CREATE TRIGGER labels_are_counted AFTER INSERT OR UPDATE OR DELETE ON holdfast.key_labels
FOR EACH STATEMENT EXECUTE FUNCTION holdfast.count_key_change();

CREATE FUNCTION holdfast.forget_labels() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM holdfast.key_labels WHERE id = NEW.id;
    RETURN NULL;
END $$;

-- A key that comes back one day has no label that somebody gave the deleted one.
CREATE TRIGGER deleted_keys_have_no_labels AFTER UPDATE OF state ON holdfast.validators FOR EACH ROW
WHEN (NEW.state = 2 AND OLD.state <> 2)
EXECUTE FUNCTION holdfast.forget_labels();
