-- Promised payments (R-60..R-75). Whether one is overdue is not stored: it follows from the day (R-67).

CREATE TABLE promised_payment (
    tenant_id          bigint      NOT NULL,
    account_id         bigint      NOT NULL,
    promise_id         uuid        NOT NULL,
    amount_micros      bigint      NOT NULL,
    outstanding_micros bigint      NOT NULL,
    -- The last day of the term, Moscow, inclusive.
    due_day            date        NOT NULL,
    created_at         timestamptz NOT NULL,
    repaid_at          timestamptz,
    CONSTRAINT promised_payment_pkey PRIMARY KEY (tenant_id, promise_id),
    CONSTRAINT promised_amount_is_positive CHECK (amount_micros > 0),
    CONSTRAINT promised_amount_is_whole_kopecks CHECK (amount_micros % 10000 = 0),
    CONSTRAINT outstanding_is_a_part CHECK (outstanding_micros BETWEEN 0 AND amount_micros),
    CONSTRAINT repaid_promise_owes_nothing CHECK ((repaid_at IS NOT NULL) = (outstanding_micros = 0))
);

CREATE INDEX promised_payment_by_account
    ON promised_payment (tenant_id, account_id, created_at, promise_id);
CREATE INDEX promised_payment_open
    ON promised_payment (tenant_id, account_id) WHERE outstanding_micros > 0;

-- What went to a promise and when: the debt at any moment of the past is a sum over few rows.
CREATE TABLE promised_repayment (
    tenant_id     bigint      NOT NULL,
    promise_id    uuid        NOT NULL,
    posting_id    uuid        NOT NULL,
    account_id    bigint      NOT NULL,
    amount_micros bigint      NOT NULL,
    repaid_at     timestamptz NOT NULL,
    CONSTRAINT promised_repayment_pkey PRIMARY KEY (tenant_id, promise_id, posting_id),
    CONSTRAINT repayment_is_positive CHECK (amount_micros > 0)
);

CREATE INDEX promised_repayment_by_account ON promised_repayment (tenant_id, account_id, repaid_at);
