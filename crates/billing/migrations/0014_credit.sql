-- Credit: deferred invoices, the overdraft threshold, the lien (R-90..R-104).

-- What an operator granted to an account and what its owner made of it. Written under the lock of the
-- account's balance row. What is owed follows from the unpaid deferred invoices.
CREATE TABLE credit (
    tenant_id        bigint NOT NULL,
    account_id       bigint NOT NULL,
    granted_micros   bigint NOT NULL,
    threshold_micros bigint NOT NULL DEFAULT 0,
    -- When a deferred invoice was last repaid: the threshold is managed again a day later (R-95).
    repaid_at        timestamptz,
    -- The end of the month whose negative balance is invoiced next (R-97).
    bill_at          timestamptz,
    -- When money under the lien goes back (R-100); none while an invoice is overdue.
    unfreeze_at      timestamptz,
    CONSTRAINT credit_pkey PRIMARY KEY (tenant_id, account_id),
    CONSTRAINT granted_is_not_negative CHECK (granted_micros >= 0),
    CONSTRAINT threshold_is_not_negative CHECK (threshold_micros >= 0),
    CONSTRAINT credit_is_whole_kopecks CHECK (granted_micros % 10000 = 0 AND threshold_micros % 10000 = 0),
    CONSTRAINT a_threshold_is_billed CHECK ((threshold_micros > 0) = (bill_at IS NOT NULL))
);

-- Terms: 1 prepaid, 2 deferred. The last day of payment of a deferred invoice is `pay_by`, inclusive; whether
-- it is overdue is not stored, it follows from the day.
ALTER TABLE invoice ADD COLUMN terms smallint NOT NULL DEFAULT 1;
-- The first day of the month whose negative balance this invoice asks for.
ALTER TABLE invoice ADD COLUMN month date;
ALTER TABLE invoice ADD CONSTRAINT invoice_terms_are_known CHECK (terms IN (1, 2));
ALTER TABLE invoice ADD CONSTRAINT credited_invoice_is_not_cancelled CHECK (terms = 1 OR state <> 3);
ALTER TABLE invoice ADD CONSTRAINT only_a_deferred_invoice_is_of_a_month CHECK (terms = 2 OR month IS NULL);
-- It has been booked and told that a deferred invoice is overdue; whether it is follows from the day.
ALTER TABLE invoice ADD COLUMN overdue_told boolean NOT NULL DEFAULT false;
-- However often and from wherever the end of a month is booked: one invoice.
ALTER TABLE invoice ADD CONSTRAINT one_invoice_a_month UNIQUE (tenant_id, account_id, month);

CREATE INDEX invoice_deferred_unpaid ON invoice (tenant_id, account_id, pay_by) WHERE terms = 2 AND state = 1;

-- When the account's credit must be looked at again: a month ends, an invoice falls due, a lien ends. Whoever
-- locks the row after that moment does it. While a deferred invoice is overdue the threshold is of no use, and
-- what comes in is frozen.
ALTER TABLE ledger_balance ADD COLUMN credit_at timestamptz;
ALTER TABLE ledger_balance ADD COLUMN overdue boolean NOT NULL DEFAULT false;

CREATE INDEX ledger_balance_by_credit ON ledger_balance (credit_at) WHERE credit_at IS NOT NULL;
