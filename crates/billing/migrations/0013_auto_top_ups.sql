-- Auto top-ups (R-110..R-119): what is set for a client, and what came of it.

-- The free money at or below which the account's auto top-up fires. None when it is off, and while it waits
-- for something else than money that goes out. It stands in the balance row, so that whoever lowers a
-- balance sees a crossing without another read.
ALTER TABLE ledger_balance ADD COLUMN top_up_at_micros bigint;

CREATE TABLE auto_top_up (
    tenant_id        bigint      NOT NULL,
    account_id       bigint      NOT NULL,
    amount_micros    bigint      NOT NULL,
    threshold_micros bigint      NOT NULL,
    limit_micros     bigint      NOT NULL,
    -- 1 day, 2 week from Monday, 3 month, all Moscow.
    period           smallint    NOT NULL,
    -- The counters are those of the period that begins on this day.
    period_start     date        NOT NULL,
    used_micros      bigint      NOT NULL DEFAULT 0,
    sequence         bigint      NOT NULL DEFAULT 0,
    -- The number of its last run.
    runs             bigint      NOT NULL DEFAULT 0,
    -- None: on. 1 by request, 2 the agency was short of money, 3 the client has left the agency.
    disabled_reason  smallint,
    disabled_at      timestamptz,
    -- On, but not firing: 1 the limit is used up, 2 a promise of the agency is overdue, 3 an account is blocked.
    waits_for        smallint,
    -- From this moment on somebody has to look at it.
    due_at           timestamptz,
    changed_at       timestamptz NOT NULL,
    CONSTRAINT auto_top_up_pkey PRIMARY KEY (tenant_id, account_id),
    CONSTRAINT auto_top_up_is_for_a_client CHECK (tenant_id <> account_id),
    CONSTRAINT top_up_amount_is_positive CHECK (amount_micros > 0),
    CONSTRAINT top_up_amounts_are_whole_kopecks CHECK (
        amount_micros % 10000 = 0 AND threshold_micros % 10000 = 0 AND limit_micros % 10000 = 0),
    CONSTRAINT top_up_threshold_is_not_negative CHECK (threshold_micros >= 0),
    CONSTRAINT top_up_limit_holds_one CHECK (limit_micros >= amount_micros),
    CONSTRAINT top_up_period_is_known CHECK (period IN (1, 2, 3)),
    CONSTRAINT top_up_counters_are_not_negative
        CHECK (used_micros >= 0 AND sequence >= 0 AND runs >= 0),
    CONSTRAINT top_up_is_off_for_a_reason CHECK (
        (disabled_reason IS NULL) = (disabled_at IS NULL) AND disabled_reason IN (1, 2, 3)),
    CONSTRAINT top_up_waits_for_what_is_known CHECK (waits_for IN (1, 2, 3)),
    CONSTRAINT top_up_that_is_off_waits_for_nothing
        CHECK (disabled_reason IS NULL OR (waits_for IS NULL AND due_at IS NULL))
) WITH (fillfactor = 70);

CREATE INDEX auto_top_up_due ON auto_top_up (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE auto_top_up_run (
    tenant_id            bigint      NOT NULL,
    account_id           bigint      NOT NULL,
    run_id               uuid        NOT NULL,
    -- In the order in which they happened; those of one moment too.
    number               bigint      NOT NULL,
    run_at               timestamptz NOT NULL,
    period               smallint    NOT NULL,
    period_start         date        NOT NULL,
    -- Counts the transfers of a period.
    sequence             bigint,
    -- 1 transferred, 2 skipped, 3 switched off.
    outcome              smallint    NOT NULL,
    -- As `waits_for`; 4 the agency was short of money.
    reason               smallint,
    amount_micros        bigint      NOT NULL,
    threshold_micros     bigint      NOT NULL,
    limit_micros         bigint      NOT NULL,
    -- What the period's transfers sum to, this one included.
    used_micros          bigint      NOT NULL,
    client_micros        bigint      NOT NULL,
    agency_micros        bigint      NOT NULL,
    posting_id           uuid,
    reversed_at          timestamptz,
    CONSTRAINT auto_top_up_run_pkey PRIMARY KEY (tenant_id, run_id),
    CONSTRAINT top_up_runs_are_numbered UNIQUE (tenant_id, account_id, number),
    -- R-118: once per crossing, whoever else tries.
    CONSTRAINT top_up_fires_once_per_sequence
        UNIQUE (tenant_id, account_id, period, period_start, sequence),
    CONSTRAINT top_up_run_period_is_known CHECK (period IN (1, 2, 3)),
    CONSTRAINT top_up_run_amount_is_positive CHECK (amount_micros > 0),
    CONSTRAINT top_up_run_outcome_is_known CHECK (outcome IN (1, 2, 3)),
    CONSTRAINT top_up_run_has_a_reason_or_money CHECK (
        (outcome = 1) = (posting_id IS NOT NULL) AND (outcome = 1) = (sequence IS NOT NULL)
        AND (outcome = 1) = (reason IS NULL) AND reason IN (1, 2, 3, 4)),
    -- R-112: never above the limit.
    CONSTRAINT top_ups_stay_within_the_limit CHECK (outcome <> 1 OR used_micros <= limit_micros),
    CONSTRAINT only_a_transfer_is_reversed CHECK (outcome = 1 OR reversed_at IS NULL)
);

-- A skip is told once per period and reason.
CREATE UNIQUE INDEX auto_top_up_skips_once
    ON auto_top_up_run (tenant_id, account_id, period, period_start, reason) WHERE outcome = 2;
CREATE UNIQUE INDEX auto_top_up_run_by_posting
    ON auto_top_up_run (tenant_id, posting_id) WHERE posting_id IS NOT NULL;
