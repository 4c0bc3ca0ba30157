-- Schema version 3: the journal may begin after batches that were archived. A program that knows version 2 only
-- goes on working: the end of a chain, which is all it looks at, always stays.

INSERT INTO holdfast.schema_version (version, oldest_program) VALUES (3, 1);

-- The last batch that was archived and taken out, by instance. The rows of the journal follow it.
CREATE TABLE holdfast.journal_base (
    instance bytea PRIMARY KEY CHECK (length(instance) = 16),
    seq      bigint NOT NULL CHECK (seq > 0),
    hash     bytea NOT NULL CHECK (length(hash) = 32)
);

CREATE TRIGGER journal_base_only_rises BEFORE UPDATE ON holdfast.journal_base FOR EACH ROW
WHEN (NEW.instance <> OLD.instance OR NEW.seq <= OLD.seq)
EXECUTE FUNCTION holdfast.refuse('a journal never begins earlier than it did');

CREATE TRIGGER journal_base_stays BEFORE DELETE ON holdfast.journal_base FOR EACH ROW
EXECUTE FUNCTION holdfast.refuse('where a journal begins may never be forgotten');
