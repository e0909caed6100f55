-- Accounts as billing describes them, campaigns, budgets and their log, the answers to requests, and what
-- the replicas of the service share. Amounts are micro-units of the account's currency; days are Moscow
-- days. Keys begin with the account number, so the tables can be spread by it; only the names that callers
-- choose are unique over all of it.
--
-- `changed_by` is the transaction that last wrote a row. A reader that asks for the rows of transactions at
-- or above the oldest one that was running when it last asked misses nothing, however commits interleave;
-- a time or a sequence would lose the row of a slow transaction.

-- A copy of what billing says about an account, as of `checked_at`. The tenant is the account id of the
-- agency, or of the direct advertiser itself.
CREATE TABLE account (
    account_no bigint      GENERATED ALWAYS AS IDENTITY,
    name       text        NOT NULL,
    tenant     text        NOT NULL,
    currency   text        NOT NULL,
    -- 1 agency, 2 client, 3 advertiser.
    kind       smallint    NOT NULL,
    -- 1 active, 2 blocked, 3 closed.
    state      smallint    NOT NULL,
    checked_at timestamptz NOT NULL,
    changed_by xid8        NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT account_pkey PRIMARY KEY (account_no),
    CONSTRAINT account_name_is_unique UNIQUE (name),
    CONSTRAINT account_currency_is_a_code CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT account_kind_is_known CHECK (kind IN (1, 2, 3)),
    CONSTRAINT account_state_is_known CHECK (state IN (1, 2, 3))
);

CREATE INDEX account_of_tenant ON account (tenant, account_no);
CREATE INDEX account_changed ON account (changed_by);
CREATE INDEX account_checked ON account (checked_at);
CREATE INDEX account_stopped ON account (checked_at) WHERE state <> 1;

CREATE TABLE campaign (
    account_no     bigint      NOT NULL,
    campaign_no    bigint      GENERATED ALWAYS AS IDENTITY,
    name           text        NOT NULL,
    display_name   text        NOT NULL DEFAULT '',
    time_zone      text        NOT NULL,
    -- Weekly hours in that zone, one element per interval and sorted; no element is always.
    weekdays       smallint[]  NOT NULL DEFAULT '{}',
    from_minutes   smallint[]  NOT NULL DEFAULT '{}',
    to_minutes     smallint[]  NOT NULL DEFAULT '{}',
    -- How many different weekdays the intervals have: the limits ask for it (R-155).
    scheduled_days smallint    NOT NULL DEFAULT 0,
    -- 1 per impression, 2 per click, 3 per conversion.
    payment_model  smallint    NOT NULL,
    start_date     date,
    end_date       date,
    -- 1 active, 2 paused.
    state          smallint    NOT NULL DEFAULT 1,
    created_at     timestamptz NOT NULL,
    changed_at     timestamptz NOT NULL,
    revision       bigint      NOT NULL DEFAULT 1,
    changed_by     xid8        NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT campaign_pkey PRIMARY KEY (account_no, campaign_no),
    CONSTRAINT campaign_name_is_unique UNIQUE (name),
    CONSTRAINT campaign_account_exists FOREIGN KEY (account_no) REFERENCES account (account_no),
    CONSTRAINT campaign_payment_model_is_known CHECK (payment_model IN (1, 2, 3)),
    CONSTRAINT campaign_state_is_known CHECK (state IN (1, 2)),
    CONSTRAINT campaign_ends_after_it_starts CHECK (start_date <= end_date),
    CONSTRAINT campaign_intervals_are_whole CHECK (
        cardinality(weekdays) = cardinality(from_minutes)
        AND cardinality(weekdays) = cardinality(to_minutes)
        AND cardinality(weekdays) <= 168),
    CONSTRAINT campaign_scheduled_days_fit CHECK (
        scheduled_days BETWEEN 0 AND 7 AND (scheduled_days = 0) = (cardinality(weekdays) = 0))
) WITH (fillfactor = 90);

CREATE INDEX campaign_in_order ON campaign (campaign_no);
CREATE INDEX campaign_changed ON campaign (changed_by);

-- What binds an account (level 2) or a campaign (level 1): the state of `calendar::changes`, a column each.
-- A figure is three columns that are null together.
CREATE TABLE budget (
    account_no         bigint   NOT NULL,
    level              smallint NOT NULL,
    entity_no          bigint   NOT NULL,
    -- 1 even, 2 traffic, 3 as soon as possible.
    mode               smallint NOT NULL,
    in_force_preset    text,
    in_force_unit      text,
    in_force_micros    bigint,
    in_force_day       date,
    segment_day        date     NOT NULL,
    segment_began      text     NOT NULL,
    marks_day          date     NOT NULL,
    changes            smallint NOT NULL,
    daily_high_micros  bigint   NOT NULL,
    weekly_old_micros  bigint   NOT NULL,
    pending_preset     text,
    pending_unit       text,
    pending_micros     bigint,
    pending_day        date,
    -- Lines of the log so far.
    last_change_no     bigint   NOT NULL DEFAULT 0,
    CONSTRAINT budget_pkey PRIMARY KEY (account_no, level, entity_no),
    CONSTRAINT budget_account_exists FOREIGN KEY (account_no) REFERENCES account (account_no),
    CONSTRAINT budget_level_is_known CHECK (level IN (1, 2)),
    CONSTRAINT budget_mode_is_known CHECK (mode IN (1, 2, 3)),
    CONSTRAINT budget_changes_are_limited CHECK (changes BETWEEN 0 AND 3),
    CONSTRAINT budget_marks_are_not_negative CHECK (daily_high_micros >= 0 AND weekly_old_micros >= 0),
    CONSTRAINT budget_figure_in_force_is_whole CHECK (
        num_nonnulls(in_force_preset, in_force_unit, in_force_micros, in_force_day) IN (0, 4)),
    CONSTRAINT budget_figure_pending_is_whole CHECK (
        num_nonnulls(pending_preset, pending_unit, pending_micros, pending_day) IN (0, 4)),
    CONSTRAINT budget_figures_are_positive CHECK (in_force_micros > 0 AND pending_micros > 0)
) WITH (fillfactor = 80);

-- Every accepted change; `calendar::changes::replay` of it gives the row above.
CREATE TABLE budget_change (
    account_no      bigint      NOT NULL,
    level           smallint    NOT NULL,
    entity_no       bigint      NOT NULL,
    change_no       bigint      NOT NULL,
    changed_at      timestamptz NOT NULL,
    day             date        NOT NULL,
    kind            text        NOT NULL,
    -- What was asked for; null for a removal.
    preset          text,
    unit            text,
    amount_micros   bigint,
    effective_day   date        NOT NULL,
    -- What was in force.
    previous_preset text,
    previous_unit   text,
    previous_micros bigint,
    previous_day    date,
    actor           text        NOT NULL,
    CONSTRAINT budget_change_pkey PRIMARY KEY (account_no, level, entity_no, change_no),
    CONSTRAINT budget_change_has_a_budget FOREIGN KEY (account_no, level, entity_no)
        REFERENCES budget (account_no, level, entity_no),
    CONSTRAINT budget_change_kind_is_known
        CHECK (kind IN ('SET', 'INCREASE', 'DECREASE', 'TAKE_BACK', 'REMOVE', 'RESTART')),
    CONSTRAINT budget_change_figure_is_whole CHECK (
        num_nonnulls(preset, unit, amount_micros) = CASE kind WHEN 'REMOVE' THEN 0 ELSE 3 END),
    CONSTRAINT budget_change_previous_is_whole
        CHECK (num_nonnulls(previous_preset, previous_unit, previous_micros, previous_day) IN (0, 4))
);

-- The first answer to a changing request of a person; admissions and charges have their own ways.
CREATE TABLE request (
    -- The caller's tenant; empty for callers above tenants.
    tenant       text        NOT NULL,
    method       text        NOT NULL,
    request_id   text        NOT NULL,
    payload_hash bytea       NOT NULL,
    -- Empty only inside the transaction that carries the request out.
    answer       bytea       NOT NULL,
    created_at   timestamptz NOT NULL,
    replays      integer     NOT NULL DEFAULT 0,
    CONSTRAINT request_pkey PRIMARY KEY (tenant, method, request_id)
);

CREATE INDEX request_created ON request (created_at);

-- The processes that serve; one that was not seen for a while has gone.
CREATE TABLE replica (
    replica    uuid        NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL,
    CONSTRAINT replica_pkey PRIMARY KEY (replica)
);

-- Keys that the replicas share, made by the first of them.
CREATE TABLE secret (
    name    text        NOT NULL,
    value   bytea       NOT NULL,
    made_at timestamptz NOT NULL,
    CONSTRAINT secret_pkey PRIMARY KEY (name),
    CONSTRAINT secret_is_long_enough CHECK (octet_length(value) >= 32)
);
