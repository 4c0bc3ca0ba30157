-- Schema version 5: labels of keys, by which rules of the policy select them.

INSERT INTO schema_version (version) VALUES (5);

CREATE TABLE key_labels (
    id    INTEGER NOT NULL REFERENCES validators (id),
    label TEXT NOT NULL CHECK (length(label) BETWEEN 1 AND 64),
    PRIMARY KEY (id, label)
) STRICT, WITHOUT ROWID;

-- A key that comes back one day has no label that somebody gave the deleted one.
CREATE TRIGGER deleted_keys_have_no_labels AFTER UPDATE OF state ON validators
WHEN NEW.state = 2
BEGIN
    DELETE FROM key_labels WHERE id = NEW.id;
END;
