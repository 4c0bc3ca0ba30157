-- Schema version 5: approvals that were used, and who may approve. Programs of older versions know nothing of approvals
-- and ask for none; upgrade every signer, and every command, before relying on them.

INSERT INTO holdfast.schema_version (version, oldest_program) VALUES (5, 1);

-- One row for each approval request that was used, until it would have expired anyway and some time more.
CREATE TABLE holdfast.used_approvals (
    id         bytea PRIMARY KEY CHECK (length(id) = 16),
    expires_ms bigint NOT NULL,
    used_ms    bigint NOT NULL
);

CREATE TRIGGER used_approvals_stay_used BEFORE UPDATE ON holdfast.used_approvals FOR EACH ROW
EXECUTE FUNCTION holdfast.refuse('an approval that was used stays used');

-- The approvers in force, as text and its SHA-256. No row: nothing needs approvals.
CREATE TABLE holdfast.approval_policy (
    id        smallint PRIMARY KEY CHECK (id = 1),
    document  text NOT NULL,
    digest    bytea NOT NULL CHECK (length(digest) = 32),
    pinned_ms bigint NOT NULL,
    pinned_by text NOT NULL
);
