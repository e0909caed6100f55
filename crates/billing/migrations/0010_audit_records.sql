-- Who did what when with which request. A row is a changing call with its request, or a transaction of the
-- ledger with the calls whose postings it booked and a digest of their legs. Rows come in the order in which
-- they are written; their links come after them, in the order of the chain. Neither is ever changed.

CREATE SEQUENCE audit_record_seq AS bigint MINVALUE 1;

CREATE TABLE audit_record (
    record_id    bigint      NOT NULL,
    made_at      timestamptz NOT NULL,
    -- `method principal role tenant`, a dash for no tenant: one of a call, all that a transaction had.
    who          text[]      NOT NULL,
    -- A call: its id, the hash of all that was asked, the request as far as it is kept, the accounts that it
    -- or its answer names.
    request_id   text,
    payload_hash bytea,
    request      bytea,
    omitted      integer[],
    accounts     text[],
    -- A transaction of the ledger: its postings call by call, and the digest of their legs.
    postings     bytea,
    digest       bytea,
    CONSTRAINT audit_record_pkey PRIMARY KEY (record_id),
    CONSTRAINT audit_record_is_a_call_or_a_transaction CHECK (
        (postings IS NULL) = (request_id IS NOT NULL) AND (postings IS NULL) = (digest IS NULL)
        AND (request_id IS NULL) = (request IS NULL) AND (request_id IS NULL) = (payload_hash IS NULL)
        AND (request_id IS NULL) = (accounts IS NULL))
);
-- Ids do not compress.
ALTER TABLE audit_record ALTER COLUMN postings SET STORAGE EXTERNAL;
CREATE INDEX audit_record_by_time ON audit_record (made_at, record_id);

-- The chain: number n hashes the hash of n - 1 and the row. It is written after the row, so that posting does
-- not wait for it.
CREATE TABLE audit_link (
    number    bigint NOT NULL,
    record_id bigint NOT NULL,
    hash      bytea  NOT NULL,
    CONSTRAINT audit_link_pkey PRIMARY KEY (number),
    CONSTRAINT a_record_is_linked_once UNIQUE (record_id),
    CONSTRAINT link_numbers_begin_at_one CHECK (number > 0),
    CONSTRAINT link_hash_is_whole CHECK (length(hash) = 32)
);

CREATE TRIGGER audit_record_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_record
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER audit_link_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_link
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
