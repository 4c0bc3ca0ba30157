-- Schema version 4: approvals that were used, and who may approve.

INSERT INTO schema_version (version) VALUES (4);

-- One row for each approval request that was used, until it would have expired anyway and some time more.
CREATE TABLE used_approvals (
    id         BLOB PRIMARY KEY CHECK (length(id) = 16),
    expires_ms INTEGER NOT NULL,
    used_ms    INTEGER NOT NULL
) STRICT;

CREATE TRIGGER used_approvals_stay_used BEFORE UPDATE ON used_approvals
BEGIN
    SELECT raise(ABORT, 'an approval that was used stays used');
END;

-- The approvers in force, as text and its SHA-256. No row: nothing needs approvals.
CREATE TABLE approval_policy (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    document  TEXT NOT NULL,
    digest    BLOB NOT NULL CHECK (length(digest) = 32),
    pinned_ms INTEGER NOT NULL,
    pinned_by TEXT NOT NULL
) STRICT;
