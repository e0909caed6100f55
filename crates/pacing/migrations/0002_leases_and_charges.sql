-- Headroom, holds, slices, charges. Amounts are micro-units of the account's currency; days are Moscow days.
-- Every key begins with the account number, and no transaction needs two accounts, so the tables can be
-- spread by it.
--
-- The books of one slice of amount A, with C charged, K the reservations closed (settled or cancelled) and T
-- all reservations ever taken from it. What it keeps reserved in its headroom rows and its hold is
--     open      A - C      its owner takes K - C back and may admit with it again
--     final     T - K      its owner has reported T and admits no more
--     resolved  0          no token of it can be settled in time any more
-- An owner that died never reports; its slice stays open until `resolves_at`, and then counts as resolved.

-- How much of each limit is used. Level 1 is a campaign (entity = campaign number), level 2 an account.
CREATE TABLE headroom (
    account_no      bigint   NOT NULL,
    level           smallint NOT NULL,
    entity_no       bigint   NOT NULL,
    day             date     NOT NULL,
    reserved_micros bigint   NOT NULL DEFAULT 0,
    charged_micros  bigint   NOT NULL DEFAULT 0,
    late_micros     bigint   NOT NULL DEFAULT 0,
    charges         bigint   NOT NULL DEFAULT 0,
    -- The highest ceiling that a grant of this day was cut under; null while there was none. For reports.
    limit_micros    bigint,
    CONSTRAINT headroom_pkey PRIMARY KEY (account_no, level, entity_no, day),
    CONSTRAINT headroom_level_is_known CHECK (level IN (1, 2)),
    CONSTRAINT headroom_reserved_is_not_negative CHECK (reserved_micros >= 0),
    CONSTRAINT headroom_charged_is_not_negative CHECK (charged_micros >= 0),
    CONSTRAINT headroom_late_is_charged CHECK (late_micros BETWEEN 0 AND charged_micros),
    CONSTRAINT headroom_charges_is_not_negative CHECK (charges >= 0)
) WITH (fillfactor = 70);

-- Money that billing has set aside for an account. `request_id` is written before billing is asked, so a
-- retry after a crash cannot hold twice.
CREATE TABLE hold (
    account_no      bigint      NOT NULL,
    hold_no         bigint      GENERATED ALWAYS AS IDENTITY,
    request_id      text        NOT NULL,
    billing_name    text,
    -- 1 asking, 2 open, 3 draining (no more grants), 4 closed, 5 refused.
    state           smallint    NOT NULL DEFAULT 1,
    -- The whole question, so that a repeat of it is the same: how much, the least, for how long.
    asked_micros    bigint      NOT NULL,
    least_micros    bigint      NOT NULL,
    ttl_seconds     integer     NOT NULL,
    opened_micros   bigint      NOT NULL DEFAULT 0,
    reserved_micros bigint      NOT NULL DEFAULT 0,
    charged_micros  bigint      NOT NULL DEFAULT 0,
    late_micros     bigint      NOT NULL DEFAULT 0,
    asked_at        timestamptz NOT NULL,
    expires_at      timestamptz,
    used_at         timestamptz NOT NULL,
    CONSTRAINT hold_pkey PRIMARY KEY (account_no, hold_no),
    CONSTRAINT hold_request_is_unique UNIQUE (account_no, request_id),
    CONSTRAINT hold_state_is_known CHECK (state BETWEEN 1 AND 5),
    CONSTRAINT hold_amounts_are_not_negative
        CHECK (asked_micros > 0 AND least_micros > 0 AND ttl_seconds > 0 AND opened_micros >= 0 AND reserved_micros >= 0 AND charged_micros >= 0),
    CONSTRAINT hold_late_is_charged CHECK (late_micros BETWEEN 0 AND charged_micros),
    -- Every reserved micro-unit lies inside the hold (I-5); only late charges may go past it.
    CONSTRAINT hold_covers_its_slices
        CHECK (reserved_micros + charged_micros - late_micros <= opened_micros),
    CONSTRAINT open_hold_is_known_to_billing
        CHECK (state IN (1, 5) OR (billing_name IS NOT NULL AND expires_at IS NOT NULL))
) WITH (fillfactor = 70);

CREATE UNIQUE INDEX hold_one_question_at_a_time ON hold (account_no) WHERE state = 1;
CREATE INDEX hold_live ON hold (account_no, expires_at) WHERE state IN (2, 3);

-- What a hold's charges sum to per campaign, and what billing has acknowledged of it.
CREATE TABLE hold_spend (
    account_no           bigint NOT NULL,
    hold_no              bigint NOT NULL,
    campaign_no          bigint NOT NULL,
    charged_micros       bigint NOT NULL DEFAULT 0,
    acknowledged_micros  bigint NOT NULL DEFAULT 0,
    -- No charge that is still to be acknowledged is older; says nothing while there is none.
    unsettled_since      timestamptz NOT NULL,
    CONSTRAINT hold_spend_pkey PRIMARY KEY (account_no, hold_no, campaign_no),
    CONSTRAINT acknowledged_was_charged CHECK (acknowledged_micros BETWEEN 0 AND charged_micros)
) WITH (fillfactor = 70);

CREATE INDEX hold_spend_unsettled ON hold_spend (account_no, hold_no)
    WHERE acknowledged_micros < charged_micros;

-- A slice of headroom and money: one replica, one campaign, one day, until a deadline.
CREATE TABLE slice (
    account_no     bigint      NOT NULL,
    slice_no       bigint      GENERATED ALWAYS AS IDENTITY,
    campaign_no    bigint      NOT NULL,
    day            date        NOT NULL,
    hold_no        bigint      NOT NULL,
    replica        uuid        NOT NULL,
    amount_micros  bigint      NOT NULL,
    charged_micros bigint      NOT NULL DEFAULT 0,
    closed_micros  bigint      NOT NULL DEFAULT 0,
    taken_micros   bigint,
    -- How many admissions were cancelled: where there is none, a charge need not look for its own.
    cancellations  bigint      NOT NULL DEFAULT 0,
    -- 1 open, 2 final, 3 resolved.
    state          smallint    NOT NULL DEFAULT 1,
    granted_at     timestamptz NOT NULL,
    -- No admission from it after this moment; its tokens expire one admission lifetime later.
    expires_at     timestamptz NOT NULL,
    -- Expiry + admission lifetime + grace.
    resolves_at    timestamptz NOT NULL,
    CONSTRAINT slice_pkey PRIMARY KEY (account_no, slice_no),
    CONSTRAINT slice_amount_is_positive CHECK (amount_micros > 0),
    CONSTRAINT slice_charges_were_closed
        CHECK (charged_micros >= 0 AND closed_micros >= charged_micros),
    CONSTRAINT slice_cancellations_is_not_negative CHECK (cancellations >= 0),
    CONSTRAINT slice_state_is_known CHECK (state IN (1, 2, 3)),
    CONSTRAINT final_slice_has_reported CHECK (state <> 2 OR taken_micros IS NOT NULL),
    CONSTRAINT slice_keeps_within_its_amount
        CHECK (taken_micros IS NULL OR charged_micros + (taken_micros - closed_micros) <= amount_micros),
    CONSTRAINT slice_times_are_in_order CHECK (granted_at < expires_at AND expires_at < resolves_at)
) WITH (fillfactor = 70);

CREATE INDEX slice_unresolved ON slice (resolves_at) WHERE state IN (1, 2);
CREATE INDEX slice_own ON slice (replica) WHERE state = 1;
CREATE INDEX slice_open_of_campaign ON slice (account_no, campaign_no) WHERE state = 1;

-- Charges that were acknowledged. A charge id is unique within its account; one admission is charged once.
CREATE TABLE charge (
    account_no      bigint      NOT NULL,
    charge_id       text        NOT NULL,
    campaign_no     bigint      NOT NULL,
    -- Null for a late conversion without a token.
    slice_no        bigint,
    admission_no    bigint,
    reserved_micros bigint      NOT NULL,
    price_micros    bigint      NOT NULL,
    day             date        NOT NULL,
    late            boolean     NOT NULL,
    booked_at       timestamptz NOT NULL,
    CONSTRAINT charge_pkey PRIMARY KEY (account_no, charge_id),
    CONSTRAINT charge_price_is_positive CHECK (price_micros > 0),
    CONSTRAINT charge_fits_its_reservation CHECK (slice_no IS NULL OR price_micros <= reserved_micros),
    CONSTRAINT charge_has_an_admission_or_none CHECK ((slice_no IS NULL) = (admission_no IS NULL))
);

CREATE UNIQUE INDEX charge_once_per_admission ON charge (account_no, slice_no, admission_no)
    WHERE slice_no IS NOT NULL;

-- Admissions that were given back. The slice's row lock keeps a charge and a cancellation of one admission
-- apart.
CREATE TABLE cancellation (
    account_no      bigint      NOT NULL,
    slice_no        bigint      NOT NULL,
    admission_no    bigint      NOT NULL,
    reserved_micros bigint      NOT NULL,
    cancelled_at    timestamptz NOT NULL,
    CONSTRAINT cancellation_pkey PRIMARY KEY (account_no, slice_no, admission_no)
);

-- What is on its way to billing. A report of a hold keeps its sequence and its payload until billing has
-- acknowledged it; the next one is made after that. The sequence is one for all holds: of one hold it grows,
-- because a hold has one report at a time.
CREATE TABLE settlement (
    account_no    bigint      NOT NULL,
    hold_no       bigint      NOT NULL,
    sequence      bigint      GENERATED ALWAYS AS IDENTITY,
    campaign_nos  bigint[]    NOT NULL,
    spent_micros  bigint[]    NOT NULL,
    created_at    timestamptz NOT NULL,
    -- Some replica is sending it; from this moment on any other may.
    claimed_until timestamptz NOT NULL,
    attempts      integer     NOT NULL DEFAULT 0,
    CONSTRAINT settlement_pkey PRIMARY KEY (account_no, hold_no),
    CONSTRAINT settlement_columns_match
        CHECK (cardinality(campaign_nos) = cardinality(spent_micros) AND cardinality(campaign_nos) > 0)
);

CREATE INDEX settlement_due ON settlement (claimed_until);

-- Late conversions without a hold, on their way to billing's RecordCharges.
CREATE TABLE late_charge (
    account_no    bigint      NOT NULL,
    charge_id     text        NOT NULL,
    campaign_no   bigint      NOT NULL,
    price_micros  bigint      NOT NULL,
    day           date        NOT NULL,
    booked_at     timestamptz NOT NULL,
    acknowledged  boolean     NOT NULL DEFAULT false,
    claimed_until timestamptz NOT NULL,
    attempts      integer     NOT NULL DEFAULT 0,
    CONSTRAINT late_charge_pkey PRIMARY KEY (account_no, charge_id),
    CONSTRAINT late_charge_price_is_positive CHECK (price_micros > 0)
);

CREATE INDEX late_charge_unsettled ON late_charge (claimed_until) WHERE NOT acknowledged;
