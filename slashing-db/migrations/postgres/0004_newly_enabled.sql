-- Schema version 4: which keys were enabled a short while ago, and what was seen of them since. Keys that were enabled
-- before this version are not among them. A trigger notes them, so that programs of older versions, which know nothing
-- of it, note theirs too; those programs hold nothing back.

INSERT INTO holdfast.schema_version (version, oldest_program) VALUES (4, 1);

-- In the key's own row, as it is read with every request: 0 nothing to watch for, 1 newly enabled, 2 seen in use elsewhere.
ALTER TABLE holdfast.validators ADD COLUMN watch smallint NOT NULL DEFAULT 0 CHECK (watch IN (0, 1, 2));

-- One row for each key whose `watch` is not 0.
CREATE TABLE holdfast.newly_enabled (
    id             bigint PRIMARY KEY REFERENCES holdfast.validators (id),
    enabled_ms     bigint NOT NULL,
    quiet_epochs   bigint NOT NULL DEFAULT 0, -- epochs in which nobody was seen signing with it
    own_epochs     bigint NOT NULL DEFAULT 0, -- epochs in which signatures of this database explain what was seen
    judged_through numeric(20, 0),            -- the last epoch counted
    seen_epoch     numeric(20, 0)             -- the epoch in which somebody else was seen
);

-- The time is the signer's, if it says it, as everything that is decided by time is.
CREATE FUNCTION holdfast.watch_newly_enabled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM holdfast.newly_enabled WHERE id = NEW.id;
    NEW.watch := 0;
    IF NEW.state = 0 THEN
        INSERT INTO holdfast.newly_enabled (id, enabled_ms)
        VALUES (NEW.id, coalesce(nullif(current_setting('holdfast.now_ms', true), '')::bigint,
                                 (extract(epoch FROM clock_timestamp()) * 1000)::bigint));
        NEW.watch := 1;
    END IF;
    RETURN NEW;
END $$;

-- Signing never names the state, so it never comes here.
CREATE TRIGGER states_are_watched BEFORE UPDATE OF state ON holdfast.validators FOR EACH ROW
WHEN (OLD.state <> NEW.state)
EXECUTE FUNCTION holdfast.watch_newly_enabled();
