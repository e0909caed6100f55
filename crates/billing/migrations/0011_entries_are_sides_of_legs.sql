-- A leg carries what it does to both of its ends, so an entry need not be a row of its own: one row and three
-- index entries a leg instead of three rows and three index entries, a third less WAL, and an entry that
-- differs from its leg cannot be written down.

ALTER TABLE ledger_leg RENAME TO ledger_leg_before;
ALTER TABLE ledger_leg_before RENAME CONSTRAINT ledger_leg_pkey TO ledger_leg_before_pkey;

-- A leg moves one amount from one ledger account to another, so it cannot be unbalanced (I-1). A posting is
-- the legs with one id. Account 0 stands for the tenant's counter-accounts (bank, revenue, …), which have no
-- row to fight for: their balance is the sum of their legs. Each end that has an owner is the owner's n-th
-- entry: its version is n, `…_balance_micros` is what its bucket has right after, `…_posted_micros` what all
-- its buckets have.
CREATE TABLE ledger_leg (
    tenant_id           bigint      NOT NULL,
    from_account        bigint      NOT NULL,
    to_account          bigint      NOT NULL,
    amount_micros       bigint      NOT NULL,
    from_version        bigint      NOT NULL,
    to_version          bigint      NOT NULL,
    from_balance_micros bigint      NOT NULL,
    to_balance_micros   bigint      NOT NULL,
    from_posted_micros  bigint      NOT NULL,
    to_posted_micros    bigint      NOT NULL,
    payload_hash        bigint      NOT NULL,
    posted_at           timestamptz NOT NULL,
    posting_id          uuid        NOT NULL,
    leg                 smallint    NOT NULL,
    kind                smallint    NOT NULL,
    from_bucket         smallint    NOT NULL,
    to_bucket           smallint    NOT NULL,
    replays             integer     NOT NULL DEFAULT 0,
    object              text,
    CONSTRAINT ledger_leg_pkey PRIMARY KEY (tenant_id, posting_id, leg),
    CONSTRAINT leg_amount_is_positive CHECK (amount_micros > 0),
    CONSTRAINT leg_moves_money CHECK (from_account <> to_account OR from_bucket <> to_bucket),
    CONSTRAINT leg_ends_with_an_owner_are_entries
        CHECK ((from_account <> 0) = (from_version > 0) AND (to_account <> 0) = (to_version > 0))
);

INSERT INTO ledger_leg
SELECT l.tenant_id, l.from_account, l.to_account, l.amount_micros, l.from_version, l.to_version,
       coalesce(f.balance_micros, 0), coalesce(t.balance_micros, 0),
       coalesce(f.posted_micros, 0), coalesce(t.posted_micros, 0),
       l.payload_hash, l.posted_at, l.posting_id, l.leg, l.kind, l.from_bucket, l.to_bucket, l.replays,
       l.object
FROM ledger_leg_before l
LEFT JOIN ledger_entry f ON f.tenant_id = l.tenant_id AND f.account_id = l.from_account
    AND f.version = l.from_version
LEFT JOIN ledger_entry t ON t.tenant_id = l.tenant_id AND t.account_id = l.to_account
    AND t.version = l.to_version;

DROP TABLE ledger_leg_before;
DROP TABLE ledger_entry;

CREATE UNIQUE INDEX ledger_leg_from ON ledger_leg (tenant_id, from_account, from_version)
    WHERE from_account <> 0;
CREATE UNIQUE INDEX ledger_leg_to ON ledger_leg (tenant_id, to_account, to_version)
    WHERE to_account <> 0;

CREATE TRIGGER ledger_leg_keeps_its_rows BEFORE DELETE OR TRUNCATE ON ledger_leg
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER ledger_leg_is_append_only
    BEFORE UPDATE OF tenant_id, from_account, to_account, amount_micros, from_version, to_version,
        from_balance_micros, to_balance_micros, from_posted_micros, to_posted_micros, payload_hash,
        posted_at, posting_id, leg, kind, from_bucket, to_bucket, object ON ledger_leg
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- What happened to one account, in order: version n of an account is its n-th entry, without gaps.
CREATE VIEW ledger_entry AS
SELECT tenant_id, from_account AS account_id, from_version AS version, -amount_micros AS amount_micros,
       from_balance_micros AS balance_micros, from_posted_micros AS posted_micros, posted_at, posting_id,
       leg, kind, from_bucket AS bucket
FROM ledger_leg WHERE from_account <> 0
UNION ALL
SELECT tenant_id, to_account, to_version, amount_micros, to_balance_micros, to_posted_micros, posted_at,
       posting_id, leg, kind, to_bucket
FROM ledger_leg WHERE to_account <> 0;
