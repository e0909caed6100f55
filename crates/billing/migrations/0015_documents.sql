-- Documents (R-162..R-177) and the months that they close.

-- A month of a tenant whose act is made. What entries spent and no act holds yet, less than a kopeck or less
-- than nothing, is carried: carried + spent - acted goes to the next month.
CREATE TABLE closed_month (
    tenant_id        bigint      NOT NULL,
    month            date        NOT NULL,
    carried_micros   bigint      NOT NULL,
    spent_micros     bigint      NOT NULL,
    acted_micros     bigint      NOT NULL,
    -- The part of all acts that no money of the payer covers: it was spent on credit.
    uncovered_micros bigint      NOT NULL,
    closed_at        timestamptz NOT NULL,
    CONSTRAINT closed_month_pkey PRIMARY KEY (tenant_id, month),
    CONSTRAINT a_month_is_its_first_day CHECK (extract(day FROM month) = 1),
    CONSTRAINT acted_is_whole_kopecks CHECK (acted_micros >= 0 AND acted_micros % 10000 = 0),
    CONSTRAINT no_whole_kopeck_is_carried CHECK (carried_micros + spent_micros - acted_micros < 10000),
    CONSTRAINT uncovered_is_not_negative CHECK (uncovered_micros >= 0)
);

CREATE INDEX closed_month_by_month ON closed_month (month);

-- The entries of an account that a month's act is about. The ranges of an account follow each other without a
-- gap, so nothing is invoiced twice and nothing is left out; a range without entries ends before it begins.
CREATE TABLE closed_account (
    tenant_id     bigint NOT NULL,
    account_id    bigint NOT NULL,
    month         date   NOT NULL,
    first_version bigint NOT NULL,
    last_version  bigint NOT NULL,
    spent_micros  bigint NOT NULL,
    CONSTRAINT closed_account_pkey PRIMARY KEY (tenant_id, account_id, month),
    CONSTRAINT closed_account_is_of_a_month FOREIGN KEY (tenant_id, month) REFERENCES closed_month,
    CONSTRAINT versions_are_a_range CHECK (first_version >= 1 AND last_version >= first_version - 1)
);

-- Money that came from the payer or went back to it, as closed months took it up; negative when it went back.
-- Acts use what came, the oldest first.
CREATE TABLE payer_flow (
    tenant_id       bigint      NOT NULL,
    posting_id      uuid        NOT NULL,
    leg             smallint    NOT NULL,
    month           date        NOT NULL,
    account_id      bigint      NOT NULL,
    version         bigint      NOT NULL,
    amount_micros   bigint      NOT NULL,
    posted_at       timestamptz NOT NULL,
    -- False for a balance that moved with its account between tenants.
    is_payment      boolean     NOT NULL,
    payment_id      uuid,
    -- The advance VAT invoice for it.
    document_id     uuid,
    used_micros     bigint      NOT NULL DEFAULT 0,
    returned_micros bigint      NOT NULL DEFAULT 0,
    CONSTRAINT payer_flow_pkey PRIMARY KEY (tenant_id, posting_id, leg),
    CONSTRAINT payer_flow_is_of_a_month FOREIGN KEY (tenant_id, month) REFERENCES closed_month,
    CONSTRAINT flow_moves_money CHECK (amount_micros <> 0),
    CONSTRAINT flow_gives_what_it_has CHECK (used_micros >= 0 AND returned_micros >= 0
        AND used_micros + returned_micros <= greatest(amount_micros, 0))
);

CREATE INDEX payer_flow_by_month ON payer_flow (tenant_id, month);
CREATE INDEX payer_flow_open ON payer_flow (tenant_id, posted_at)
    WHERE amount_micros > used_micros + returned_micros;

-- Where the payer's money came in or went out: bank, card, unallocated, refund, adjustment.
CREATE INDEX ledger_leg_of_the_payer ON ledger_leg (tenant_id, posted_at)
    WHERE from_bucket IN (10, 11, 12, 16, 17) OR to_bucket IN (10, 11, 12, 16, 17);

-- The last number of a series, by our legal entity and year. It is counted up in the transaction that uses the
-- number, so one that fails leaves no gap (R-177).
CREATE TABLE document_number (
    issuer_inn text     NOT NULL,
    series     smallint NOT NULL,
    year       integer  NOT NULL,
    last       bigint   NOT NULL,
    CONSTRAINT document_number_pkey PRIMARY KEY (issuer_inn, series, year),
    CONSTRAINT numbers_begin_at_one CHECK (last >= 1)
);

CREATE SEQUENCE document_serial_seq AS bigint MINVALUE 1;

CREATE TABLE document (
    tenant_id     bigint      NOT NULL,
    document_id   uuid        NOT NULL,
    account_id    bigint      NOT NULL,
    -- Grows with every document; they are listed by it.
    serial        bigint      NOT NULL,
    -- 1 invoice, 2 act, 3 VAT invoice, 4 advance VAT invoice, 5 reconciliation act.
    kind          smallint    NOT NULL,
    issuer_inn    text        NOT NULL,
    number        text        NOT NULL,
    day           date        NOT NULL,
    first_month   date        NOT NULL,
    month         date        NOT NULL,
    -- Everything that its pages show.
    content       jsonb       NOT NULL,
    created_at    timestamptz NOT NULL,
    CONSTRAINT document_pkey PRIMARY KEY (tenant_id, document_id),
    CONSTRAINT document_kind_is_known CHECK (kind BETWEEN 1 AND 5),
    CONSTRAINT document_months_are_in_order CHECK (first_month <= month)
);

CREATE INDEX document_by_account ON document (tenant_id, account_id, serial);
-- VAT invoices for services and for advances are one series, as the law has it.
CREATE UNIQUE INDEX document_number_is_unique ON document
    (issuer_inn, (CASE kind WHEN 4 THEN 3 ELSE kind END), extract(year FROM day), number) WHERE kind <> 1;
CREATE UNIQUE INDEX a_month_has_one_act ON document (tenant_id, kind, month) WHERE kind IN (2, 3);
CREATE UNIQUE INDEX months_are_reconciled_once ON document (tenant_id, first_month, month) WHERE kind = 5;

-- The pages, made when somebody first asked for them.
CREATE TABLE document_file (
    tenant_id   bigint      NOT NULL,
    document_id uuid        NOT NULL,
    pdf         bytea       NOT NULL,
    sha256      bytea       NOT NULL,
    created_at  timestamptz NOT NULL,
    CONSTRAINT document_file_pkey PRIMARY KEY (tenant_id, document_id),
    CONSTRAINT file_is_of_a_document FOREIGN KEY (tenant_id, document_id) REFERENCES document,
    CONSTRAINT file_has_its_hash CHECK (sha256 = sha256(pdf))
);

-- What is issued stays as it is; of a flow only what acts and refunds took of it grows.
CREATE FUNCTION documents_never_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'documents never change: % on % refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER document_never_changes BEFORE UPDATE OR DELETE OR TRUNCATE ON document
    FOR EACH STATEMENT EXECUTE FUNCTION documents_never_change();
CREATE TRIGGER document_file_never_changes BEFORE UPDATE OR DELETE OR TRUNCATE ON document_file
    FOR EACH STATEMENT EXECUTE FUNCTION documents_never_change();
CREATE TRIGGER closed_month_never_changes BEFORE UPDATE OR DELETE OR TRUNCATE ON closed_month
    FOR EACH STATEMENT EXECUTE FUNCTION documents_never_change();
CREATE TRIGGER closed_account_never_changes BEFORE UPDATE OR DELETE OR TRUNCATE ON closed_account
    FOR EACH STATEMENT EXECUTE FUNCTION documents_never_change();
CREATE TRIGGER payer_flow_keeps_its_rows BEFORE DELETE OR TRUNCATE ON payer_flow
    FOR EACH STATEMENT EXECUTE FUNCTION documents_never_change();
CREATE TRIGGER payer_flow_keeps_what_happened
    BEFORE UPDATE OF tenant_id, posting_id, leg, month, account_id, version, amount_micros, posted_at,
        is_payment, payment_id, document_id ON payer_flow
    FOR EACH STATEMENT EXECUTE FUNCTION documents_never_change();
