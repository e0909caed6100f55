-- Accounts, the ledger, and the answers to requests. Amounts are micro-units of the account's currency.
-- Every key begins with the tenant: the account number of an agency (for itself and its clients) or of a
-- direct advertiser. Tenant 0 is the platform: it keeps payments whose payer nobody knows.

CREATE TABLE account (
    tenant_id      bigint      NOT NULL,
    account_id     bigint      NOT NULL,
    name           text        NOT NULL,
    kind           smallint    NOT NULL,
    display_name   text        NOT NULL,
    currency       text        NOT NULL,
    state          smallint    NOT NULL DEFAULT 1,
    country        text        NOT NULL DEFAULT '',
    legal_name     text        NOT NULL DEFAULT '',
    inn            text        NOT NULL DEFAULT '',
    kpp            text        NOT NULL DEFAULT '',
    ogrn           text        NOT NULL DEFAULT '',
    address        text        NOT NULL DEFAULT '',
    email          text        NOT NULL DEFAULT '',
    created_at     timestamptz NOT NULL,
    revision       bigint      NOT NULL DEFAULT 1,
    CONSTRAINT account_pkey PRIMARY KEY (tenant_id, account_id),
    CONSTRAINT account_id_is_unique UNIQUE (account_id),
    CONSTRAINT account_name_is_unique UNIQUE (name),
    CONSTRAINT account_kind_is_known CHECK (kind IN (1, 2, 3)),
    CONSTRAINT account_state_is_known CHECK (state IN (1, 2, 3)),
    CONSTRAINT account_currency_is_a_code CHECK (currency ~ '^[A-Z]{3}$'),
    -- An agency and a direct advertiser own their tenant, a client does not.
    CONSTRAINT account_owner_owns_its_tenant CHECK ((kind = 2) = (tenant_id <> account_id))
);

CREATE SEQUENCE account_id_seq AS bigint MINVALUE 1;

-- One row per account and tenant: the three figures that postings move. `late_micros` is the sum of charges
-- that were booked without cover; it explains, and bounds, a balance below the overdraft threshold (I-3).
-- The columns that a posting changes stand together, so that an update logs little.
CREATE TABLE ledger_balance (
    tenant_id        bigint      NOT NULL,
    account_id       bigint      NOT NULL,
    main_micros      bigint      NOT NULL DEFAULT 0,
    version          bigint      NOT NULL DEFAULT 0,
    last_at          timestamptz NOT NULL,
    held_micros      bigint      NOT NULL DEFAULT 0,
    frozen_micros    bigint      NOT NULL DEFAULT 0,
    late_micros      bigint      NOT NULL DEFAULT 0,
    overdraft_micros bigint      NOT NULL DEFAULT 0,
    hold_expires_at  timestamptz,
    state            smallint    NOT NULL DEFAULT 1,
    CONSTRAINT ledger_balance_pkey PRIMARY KEY (tenant_id, account_id),
    CONSTRAINT held_is_not_negative CHECK (held_micros >= 0),
    CONSTRAINT frozen_is_not_negative CHECK (frozen_micros >= 0),
    CONSTRAINT late_is_not_negative CHECK (late_micros >= 0),
    CONSTRAINT overdraft_is_not_negative CHECK (overdraft_micros >= 0),
    CONSTRAINT only_late_charges_pass_the_threshold
        CHECK (main_micros::numeric + overdraft_micros + late_micros >= 0),
    -- 1 active, 2 blocked, 3 closed, 4 moved to another tenant.
    CONSTRAINT ledger_balance_state_is_known CHECK (state BETWEEN 1 AND 4)
) WITH (fillfactor = 50);

-- A leg moves one amount from one ledger account to another, so it cannot be unbalanced (I-1). A posting is
-- the legs with one id. Account 0 stands for the tenant's counter-accounts (bank, revenue, …), which have no
-- row to fight for: their balance is the sum of their legs.
CREATE TABLE ledger_leg (
    tenant_id     bigint      NOT NULL,
    from_account  bigint      NOT NULL,
    to_account    bigint      NOT NULL,
    amount_micros bigint      NOT NULL,
    from_version  bigint      NOT NULL,
    to_version    bigint      NOT NULL,
    payload_hash  bigint      NOT NULL,
    posted_at     timestamptz NOT NULL,
    posting_id    uuid        NOT NULL,
    leg           smallint    NOT NULL,
    kind          smallint    NOT NULL,
    from_bucket   smallint    NOT NULL,
    to_bucket     smallint    NOT NULL,
    replays       integer     NOT NULL DEFAULT 0,
    object        text,
    CONSTRAINT ledger_leg_pkey PRIMARY KEY (tenant_id, posting_id, leg),
    CONSTRAINT leg_amount_is_positive CHECK (amount_micros > 0),
    CONSTRAINT leg_moves_money CHECK (from_account <> to_account OR from_bucket <> to_bucket)
);

-- What a leg did to an account that keeps a balance. Version n of an account is its n-th entry, so the chain
-- has no gaps, and `balance_micros` is the running balance of the bucket.
CREATE TABLE ledger_entry (
    tenant_id      bigint      NOT NULL,
    account_id     bigint      NOT NULL,
    version        bigint      NOT NULL,
    amount_micros  bigint      NOT NULL,
    balance_micros bigint      NOT NULL,
    posted_micros  bigint      NOT NULL,
    posted_at      timestamptz NOT NULL,
    posting_id     uuid        NOT NULL,
    leg            smallint    NOT NULL,
    kind           smallint    NOT NULL,
    bucket         smallint    NOT NULL,
    CONSTRAINT ledger_entry_pkey PRIMARY KEY (tenant_id, account_id, version),
    CONSTRAINT entry_moves_money CHECK (amount_micros <> 0)
);

-- Entries are never changed or deleted; of a leg only the count of replays grows. Statement triggers cost an
-- insert nothing.
CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % on % refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER ledger_entry_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER ledger_leg_keeps_its_rows BEFORE DELETE OR TRUNCATE ON ledger_leg
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER ledger_leg_is_append_only
    BEFORE UPDATE OF tenant_id, from_account, to_account, amount_micros, from_version, to_version,
        payload_hash, posted_at, posting_id, leg, kind, from_bucket, to_bucket, object ON ledger_leg
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- The first answer to a changing request, for those whose posting id is not enough to find it again.
-- Transfers, holds and charges are found by their posting id and have no row here.
CREATE TABLE request (
    tenant_id    bigint      NOT NULL,
    method       text        NOT NULL,
    request_id   text        NOT NULL,
    payload_hash bytea       NOT NULL,
    answer       bytea       NOT NULL,
    created_at   timestamptz NOT NULL,
    replays      integer     NOT NULL DEFAULT 0,
    CONSTRAINT request_pkey PRIMARY KEY (tenant_id, method, request_id)
);
