-- The role of the signers, made once, by psql, as the administrator of the instance. Its password is in the file "password" of
-- the current folder: neither in Terraform's state nor in a secret that RDS rotates. docs/operators/kubernetes.md says how.
\set ON_ERROR_STOP on
\set password `cat password`
BEGIN;
SELECT length(:'password') < 32 AS short \gset
\if :short
    DO $$BEGIN RAISE 'the file "password" is missing or holds less than 32 characters: openssl rand -hex 32 >password'; END$$;
\endif
CREATE ROLE holdfast LOGIN PASSWORD :'password';
-- Of this database nobody else needs anything. CREATE is for the schema below, whose tables a newer version may change.
REVOKE ALL ON DATABASE holdfast FROM PUBLIC;
GRANT CONNECT, CREATE ON DATABASE holdfast TO holdfast;
-- What belongs to a role can be made by its members only.
GRANT holdfast TO CURRENT_USER;
CREATE SCHEMA holdfast AUTHORIZATION holdfast;
REVOKE holdfast FROM CURRENT_USER;
COMMIT;
