-- Invoices for prepayment (R-40, R-46), and the ways to find an account that they and the payments need.

-- The payer of a bank line: the owner of a tenant with this INN.
CREATE INDEX account_owner_by_inn ON account (inn) WHERE tenant_id = account_id AND inn <> '';

CREATE SEQUENCE invoice_number_seq AS bigint MINVALUE 1;

-- The payer is written down as it was at the time of issue: what is paid later must fit it (R-42, R-47).
CREATE TABLE invoice (
    tenant_id     bigint      NOT NULL,
    account_id    bigint      NOT NULL,
    invoice_id    uuid        NOT NULL,
    -- The running number behind `number`; invoices are listed by it.
    serial        bigint      NOT NULL,
    number        text        NOT NULL,
    amount_micros bigint      NOT NULL,
    currency      text        NOT NULL,
    -- 1 issued, 2 paid, 3 cancelled.
    state         smallint    NOT NULL DEFAULT 1,
    payer_name    text        NOT NULL,
    payer_inn     text        NOT NULL,
    payer_kpp     text        NOT NULL,
    pay_by        date        NOT NULL,
    created_at    timestamptz NOT NULL,
    paid_at       timestamptz,
    payment_id    uuid,
    CONSTRAINT invoice_pkey PRIMARY KEY (tenant_id, invoice_id),
    CONSTRAINT invoice_number_is_unique UNIQUE (number),
    CONSTRAINT invoice_amount_is_positive CHECK (amount_micros > 0),
    CONSTRAINT invoice_amount_is_whole_kopecks CHECK (amount_micros % 10000 = 0),
    CONSTRAINT invoice_state_is_known CHECK (state IN (1, 2, 3)),
    CONSTRAINT paid_invoice_names_its_payment
        CHECK ((state = 2) = (paid_at IS NOT NULL AND payment_id IS NOT NULL))
);

CREATE INDEX invoice_by_account ON invoice (tenant_id, account_id, serial);
