-- Money that arrived from outside (R-41..R-45). A payment lives in the tenant whose ledger holds its money;
-- tenant 0, the platform, keeps those whose payer nobody knows.

CREATE SEQUENCE payment_serial_seq AS bigint MINVALUE 1;

CREATE TABLE payment (
    tenant_id          bigint      NOT NULL,
    payment_id         uuid        NOT NULL,
    -- Grows with every payment; they are listed by it.
    serial             bigint      NOT NULL,
    amount_micros      bigint      NOT NULL,
    currency           text        NOT NULL,
    -- 1 credited, 2 unallocated, 3 allocated.
    state              smallint    NOT NULL,
    -- Why it was not credited at once; stays after the allocation.
    reason             text,
    -- The account it was credited to.
    account_id         bigint,
    -- The invoice it pays.
    invoice_id         uuid,
    -- The account that its purpose or its payer points at, while nobody has assigned it.
    traced_account_id  bigint,
    -- The part that went to overdue promises (R-62).
    collected_micros   bigint      NOT NULL DEFAULT 0,
    payer_name         text        NOT NULL,
    payer_inn          text        NOT NULL,
    payer_kpp          text        NOT NULL,
    payer_bank_account text        NOT NULL,
    purpose            text        NOT NULL,
    document_number    text        NOT NULL,
    document_day       date,
    created_at         timestamptz NOT NULL,
    -- When an account got the money: at once, or by the allocation.
    credited_at        timestamptz,
    CONSTRAINT payment_pkey PRIMARY KEY (tenant_id, payment_id),
    CONSTRAINT payment_id_is_unique UNIQUE (payment_id),
    CONSTRAINT payment_amount_is_positive CHECK (amount_micros > 0),
    CONSTRAINT payment_amount_is_whole_kopecks CHECK (amount_micros % 10000 = 0),
    CONSTRAINT payment_state_is_known CHECK (state IN (1, 2, 3)),
    CONSTRAINT only_a_credited_payment_has_an_account
        CHECK ((state = 2) = (account_id IS NULL) AND (state = 2) = (credited_at IS NULL)),
    CONSTRAINT a_payment_that_was_not_credited_says_why CHECK ((state = 1) = (reason IS NULL)),
    CONSTRAINT collected_is_a_part CHECK (collected_micros BETWEEN 0 AND amount_micros)
);

CREATE INDEX payment_by_tenant ON payment (tenant_id, serial);
CREATE INDEX payment_by_serial ON payment (serial);
-- Turnover of the last days, for the limit of promised payments (R-68).
CREATE INDEX payment_by_credit ON payment (tenant_id, account_id, credited_at) WHERE state <> 2;
