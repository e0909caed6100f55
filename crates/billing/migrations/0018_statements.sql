-- Bank statements (R-187..R-190): which files were imported, what became of each line, and by what a line is
-- known again. A bank account is the platform's, so all of it is in tenant 0; the payments are where their
-- money is.

-- The bank of the payer, for paying back.
ALTER TABLE payment ADD COLUMN payer_bik text NOT NULL DEFAULT '';

CREATE TABLE statement (
    tenant_id    bigint      NOT NULL,
    statement_id uuid        NOT NULL,
    -- 1 1CClientBankExchange, 2 camt.053.
    format       smallint    NOT NULL,
    lines        integer     NOT NULL,
    -- Lines up to this one have their outcome; a file that was interrupted goes on after it.
    done         integer     NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL,
    CONSTRAINT statement_pkey PRIMARY KEY (tenant_id, statement_id),
    CONSTRAINT statement_format_is_known CHECK (format IN (1, 2)),
    CONSTRAINT statement_lines_are_done_in_order CHECK (done BETWEEN 0 AND lines)
);

CREATE TABLE statement_line (
    tenant_id    bigint   NOT NULL,
    statement_id uuid     NOT NULL,
    position     integer  NOT NULL,
    -- 1 credited, 2 unallocated, 3 duplicate, 4 ignored.
    outcome      smallint NOT NULL,
    reason       text,
    payment_id   uuid,
    CONSTRAINT statement_line_pkey PRIMARY KEY (tenant_id, statement_id, position),
    CONSTRAINT statement_line_outcome_is_known CHECK (outcome BETWEEN 1 AND 4),
    CONSTRAINT an_ignored_line_is_no_payment CHECK ((outcome = 4) = (payment_id IS NULL)),
    CONSTRAINT a_line_that_is_not_credited_says_why CHECK ((outcome IN (2, 4)) = (reason IS NOT NULL))
);

-- The natural key (R-189): the same line is one payment, in however many files it comes.
CREATE TABLE bank_line (
    tenant_id       bigint NOT NULL,
    own_account     text   NOT NULL,
    document_day    date   NOT NULL,
    document_number text   NOT NULL,
    amount_micros   bigint NOT NULL,
    payer_account   text   NOT NULL,
    payment_id      uuid   NOT NULL,
    CONSTRAINT a_bank_line_is_booked_once PRIMARY KEY
        (tenant_id, own_account, document_day, document_number, amount_micros, payer_account),
    CONSTRAINT bank_line_amount_is_positive CHECK (amount_micros > 0)
);
