-- Money that goes back: refunds of payments (R-172), credits for invalid clicks (R-26), reversals (R-23).

ALTER TABLE payment ADD COLUMN refunded_micros bigint NOT NULL DEFAULT 0;
ALTER TABLE payment ADD CONSTRAINT refunded_is_a_part_of_what_was_credited
    CHECK (refunded_micros >= 0 AND refunded_micros + collected_micros <= amount_micros);
ALTER TABLE payment ADD CONSTRAINT only_a_credited_payment_is_refunded
    CHECK (refunded_micros = 0 OR account_id IS NOT NULL);

CREATE TABLE payment_refund (
    tenant_id     bigint      NOT NULL,
    payment_id    uuid        NOT NULL,
    posting_id    uuid        NOT NULL,
    amount_micros bigint      NOT NULL,
    reason        text        NOT NULL,
    refunded_at   timestamptz NOT NULL,
    CONSTRAINT payment_refund_pkey PRIMARY KEY (tenant_id, payment_id, posting_id),
    CONSTRAINT refund_is_positive CHECK (amount_micros > 0),
    CONSTRAINT refund_is_whole_kopecks CHECK (amount_micros % 10000 = 0)
);

CREATE TABLE click_credit (
    tenant_id     bigint      NOT NULL,
    account_id    bigint      NOT NULL,
    campaign      text        NOT NULL,
    posting_id    uuid        NOT NULL,
    amount_micros bigint      NOT NULL,
    reason        text        NOT NULL,
    credited_at   timestamptz NOT NULL,
    CONSTRAINT click_credit_pkey PRIMARY KEY (tenant_id, account_id, campaign, posting_id),
    CONSTRAINT click_credit_is_positive CHECK (amount_micros > 0)
);

-- A posting is reversed once.
CREATE TABLE reversal (
    tenant_id   bigint      NOT NULL,
    posting_id  uuid        NOT NULL,
    reversed_by uuid        NOT NULL,
    reason      text        NOT NULL,
    reversed_at timestamptz NOT NULL,
    CONSTRAINT reversal_pkey PRIMARY KEY (tenant_id, posting_id)
);

-- What a campaign was charged, for the bound of a credit: kinds 10 and 13, spend out of a hold and without
-- one. Transfers do not pay for it.
CREATE INDEX ledger_leg_of_spend ON ledger_leg (tenant_id, from_account, object)
    INCLUDE (amount_micros, posting_id) WHERE kind IN (10, 13);
