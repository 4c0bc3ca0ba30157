-- Schema version 3: which keys were enabled a short while ago, and what was seen of them since. Keys that were enabled
-- before this version are not among them.

INSERT INTO schema_version (version) VALUES (3);

-- In the key's own row, as it is read with every request: 0 nothing to watch for, 1 newly enabled, 2 seen in use elsewhere.
ALTER TABLE validators ADD COLUMN watch INTEGER NOT NULL DEFAULT 0 CHECK (watch IN (0, 1, 2));

-- One row for each key whose `watch` is not 0.
CREATE TABLE newly_enabled (
    id             INTEGER PRIMARY KEY REFERENCES validators (id),
    enabled_ms     INTEGER NOT NULL,
    quiet_epochs   INTEGER NOT NULL DEFAULT 0, -- epochs in which nobody was seen signing with it
    own_epochs     INTEGER NOT NULL DEFAULT 0, -- epochs in which signatures of this database explain what was seen
    judged_through INTEGER,                    -- the last epoch counted
    seen_epoch     INTEGER                     -- the epoch in which somebody else was seen
) STRICT;
