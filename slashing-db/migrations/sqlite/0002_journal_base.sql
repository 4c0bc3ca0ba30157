-- Schema version 2: the journal may begin after batches that were archived.

INSERT INTO schema_version (version) VALUES (2);

-- The last batch that was archived and taken out, by instance. The rows of the journal follow it.
CREATE TABLE journal_base (
    instance BLOB PRIMARY KEY CHECK (length(instance) = 16),
    seq      INTEGER NOT NULL CHECK (seq > 0),
    hash     BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE TRIGGER journal_base_only_rises BEFORE UPDATE ON journal_base
WHEN NEW.instance <> OLD.instance OR NEW.seq <= OLD.seq
BEGIN
    SELECT raise(ABORT, 'a journal never begins earlier than it did');
END;

CREATE TRIGGER journal_base_stays BEFORE DELETE ON journal_base
BEGIN
    SELECT raise(ABORT, 'where a journal begins may never be forgotten');
END;
