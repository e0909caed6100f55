-- What the controller learns, decides and leaves behind: offered demand, rates with the numbers behind
-- them, the course of each day by the minute, suspensions. Amounts are micro-units of the account's
-- currency; days, quarter hours and minutes are Moscow's. Level 1 is a campaign (entity = campaign number),
-- level 2 an account (entity = account number), level 3 the platform (account and entity 0).
--
-- None of this bounds what may be spent: `headroom` does. A row lost here costs smoothness, not money.

-- What one replica has seen of a campaign on a day, since midnight. A report carries the sums so far and
-- not what was added, so a repeat changes nothing; the totals are the sums over the replicas.
CREATE TABLE demand_report (
    account_no      bigint      NOT NULL,
    campaign_no     bigint      NOT NULL,
    day             date        NOT NULL,
    replica         uuid        NOT NULL,
    -- Offered before any limit or coin: the expected charges (price x chance of a charge), and how many.
    offered_micros  bigint      NOT NULL,
    offered_count   bigint      NOT NULL,
    -- The same of what was admitted.
    admitted_micros bigint      NOT NULL,
    admitted_count  bigint      NOT NULL,
    -- Charges that came in time, and how long they took in all since their admission: the feedback lag.
    settled_count   bigint      NOT NULL,
    settled_seconds float8      NOT NULL,
    reported_at     timestamptz NOT NULL,
    CONSTRAINT demand_report_pkey PRIMARY KEY (account_no, campaign_no, day, replica),
    CONSTRAINT demand_report_is_not_negative CHECK (
        offered_micros >= 0 AND offered_count >= 0 AND admitted_micros >= 0 AND admitted_count >= 0
        AND settled_count >= 0 AND settled_seconds >= 0)
) WITH (fillfactor = 60);

CREATE INDEX demand_report_day ON demand_report (day);

-- Demand of a day by quarter hours (element 1 is 00:00 to 00:15), summed over all replicas. Kept for five
-- weeks. A quarter hour that has not come yet, or in which nothing ran, has 0 seconds in
-- `known_seconds` and says nothing, whatever the other arrays hold.
CREATE TABLE demand_day (
    account_no     bigint   NOT NULL,
    level          smallint NOT NULL,
    entity_no      bigint   NOT NULL,
    day            date     NOT NULL,
    offered_micros bigint[] NOT NULL,
    offered_count  bigint[] NOT NULL,
    -- For how many of its 900 seconds demand could be seen: active, within the schedule, a replica alive.
    known_seconds  real[]   NOT NULL,
    -- What the elements of the arrays add up to: the totals as of the last turn.
    total_micros   bigint   NOT NULL,
    total_count    bigint   NOT NULL,
    CONSTRAINT demand_day_pkey PRIMARY KEY (account_no, level, entity_no, day),
    CONSTRAINT demand_day_level_is_known CHECK (level IN (1, 2, 3)),
    CONSTRAINT demand_day_has_quarter_hours CHECK (
        cardinality(offered_micros) = 96 AND cardinality(offered_count) = 96
        AND cardinality(known_seconds) = 96)
) WITH (fillfactor = 60, toast_tuple_target = 8160);

CREATE INDEX demand_day_day ON demand_day USING brin (day);

-- How an entity is paced: the latest reading of the controller, which all replicas apply, and what the
-- controller has to remember. Entities that were never asked for have no row.
CREATE TABLE pace (
    account_no       bigint      NOT NULL,
    level            smallint    NOT NULL,
    entity_no        bigint      NOT NULL,
    -- Of the last row in `pace_reading`; null before the first.
    read_at          timestamptz,
    -- What share of opportunities this entity lets through, in parts of 2^32; 4294967295 is all of them.
    -- Of a campaign: already the minimum with its account's ceiling. Of an account: the ceiling.
    rate_parts       bigint,
    -- Due by `read_at` and for the day, as `pace_reading` has them.
    due_micros       bigint,
    target_micros    bigint,
    -- Actual charges per estimated ones (kappa), and the day's totals up to which it was learned.
    kappa            float8      NOT NULL DEFAULT 1,
    kappa_day        date,
    kappa_charged    bigint      NOT NULL DEFAULT 0,
    kappa_admitted   bigint      NOT NULL DEFAULT 0,
    -- The chance that an admission is charged, where the caller names none; with what it was learned from.
    chance           float8,
    chance_charges   bigint      NOT NULL DEFAULT 0,
    chance_admitted  bigint      NOT NULL DEFAULT 0,
    -- The day's curve begins anew at a change of the budget: which change, when, and what was charged then.
    base_change_no   bigint,
    base_at          timestamptz,
    base_micros      bigint,
    CONSTRAINT pace_pkey PRIMARY KEY (account_no, level, entity_no),
    CONSTRAINT pace_level_is_known CHECK (level IN (1, 2)),
    CONSTRAINT pace_rate_is_a_share CHECK (rate_parts BETWEEN 0 AND 4294967295),
    CONSTRAINT pace_kappa_is_bounded CHECK (kappa BETWEEN 0.25 AND 4),
    CONSTRAINT pace_chance_is_one CHECK (chance BETWEEN 0 AND 1),
    CONSTRAINT pace_base_is_whole CHECK (num_nonnulls(base_change_no, base_at, base_micros) IN (0, 3))
) WITH (fillfactor = 60);

-- The readings of the controller: one when the rate changed by more than a hundredth, and one a minute
-- while the entity is throttled (one an hour while all is let through). A rate applies from its reading to
-- the next, so what was decided can be told later. Kept for 14 days.
CREATE TABLE pace_reading (
    account_no          bigint      NOT NULL,
    level               smallint    NOT NULL,
    entity_no           bigint      NOT NULL,
    read_at             timestamptz NOT NULL,
    day                 date        NOT NULL,
    -- Applied, as in `pace`.
    rate_parts          bigint      NOT NULL,
    -- The entity's own rate before its account's ceiling, and that ceiling (of an account: both are the
    -- ceiling), in parts of a million.
    own_rate_ppm        integer     NOT NULL,
    account_rate_ppm    integer     NOT NULL,
    -- Why: 1 all traffic, 2 curve, 3 floor, 4 slew, 5 warm start, 6 hard stop, 7 the next of few charges waits,
    -- 8 as soon as possible, 9 closed, 10 no budget. Of the entity itself; where `rate_parts` is lower than
    -- `own_rate_ppm` says, it is the account's ceiling that binds.
    why                 smallint    NOT NULL,
    -- 1 even, 2 traffic, 3 as soon as possible; null without a budget.
    mode                smallint,
    -- H(d), the day's target, what of it is due at `read_at` and at the horizon; null without a limit.
    limit_micros        bigint,
    target_micros       bigint,
    due_micros          bigint,
    due_ahead_micros    bigint,
    -- Charged today, and expected of what was admitted and is not charged yet.
    charged_micros      bigint      NOT NULL,
    in_flight_micros    bigint      NOT NULL,
    -- Offered since midnight; expected up to the horizon if all were admitted.
    offered_micros      bigint      NOT NULL,
    offered_count       bigint      NOT NULL,
    demand_ahead_micros bigint      NOT NULL,
    -- Today's demand against the forecast of today, and actual charges per estimated ones.
    day_factor          float8      NOT NULL,
    kappa               float8      NOT NULL,
    -- All traffic is let through until money gets short again.
    latched             boolean     NOT NULL,
    CONSTRAINT pace_reading_pkey PRIMARY KEY (account_no, level, entity_no, read_at),
    CONSTRAINT pace_reading_level_is_known CHECK (level IN (1, 2)),
    CONSTRAINT pace_reading_why_is_known CHECK (why BETWEEN 1 AND 10),
    CONSTRAINT pace_reading_mode_is_known CHECK (mode IN (1, 2, 3)),
    CONSTRAINT pace_reading_rates_are_shares CHECK (
        rate_parts BETWEEN 0 AND 4294967295 AND own_rate_ppm BETWEEN 0 AND 1000000
        AND account_rate_ppm BETWEEN 0 AND 1000000)
);

CREATE INDEX pace_reading_read ON pace_reading USING brin (read_at);

-- The course of a day, a row an hour, written once a minute for entities that changed in it. Kept for eight
-- weeks: 1 344 rows an entity, found by the key and never toasted.
--
-- `minutes` is sixty records of 44 bytes, big-endian, as int8send and int4send make them. Five of 8 bytes:
-- charged, offered (micro-units), offered, admitted (opportunities), each the sum since Moscow midnight at
-- the end of the minute; then what was due by the day's curve (-1: none). One of 4: the rate in parts of a
-- million. A minute that is all ff was not written: it was as the minute before, and 0 at midnight. Bytes
-- and not arrays, because the server sends eight weeks in 5 ms so, and in 40 ms element by element.
CREATE TABLE pace_hour (
    account_no  bigint      NOT NULL,
    level       smallint    NOT NULL,
    entity_no   bigint      NOT NULL,
    hour        timestamptz NOT NULL,
    minutes     bytea       NOT NULL,
    -- Late charges since midnight as of the last minute written: for the late reserve.
    late_micros bigint      NOT NULL,
    CONSTRAINT pace_hour_pkey PRIMARY KEY (account_no, level, entity_no, hour),
    CONSTRAINT pace_hour_level_is_known CHECK (level IN (1, 2)),
    CONSTRAINT pace_hour_has_minutes CHECK (octet_length(minutes) = 2640)
) WITH (fillfactor = 90, toast_tuple_target = 8160);

CREATE INDEX pace_hour_hour ON pace_hour USING brin (hour);

-- An entity that reached a limit stands still until midnight or until its budget changes (R-151). Kept for
-- 14 days after its end.
CREATE TABLE suspension (
    account_no    bigint      NOT NULL,
    level         smallint    NOT NULL,
    entity_no     bigint      NOT NULL,
    suspension_no bigint      GENERATED ALWAYS AS IDENTITY,
    -- The day whose limit it is.
    day           date        NOT NULL,
    -- 1 the day's limit, 2 the week's.
    reason        smallint    NOT NULL,
    limit_micros  bigint      NOT NULL,
    -- Charged and reserved when the limit was reached.
    used_micros   bigint      NOT NULL,
    began_at      timestamptz NOT NULL,
    -- Null while it lasts.
    ended_at      timestamptz,
    -- 1 midnight, 2 a change of the budget.
    ended_by      smallint,
    CONSTRAINT suspension_pkey PRIMARY KEY (account_no, level, entity_no, suspension_no),
    CONSTRAINT suspension_level_is_known CHECK (level IN (1, 2)),
    CONSTRAINT suspension_reason_is_known CHECK (reason IN (1, 2)),
    CONSTRAINT suspension_ends_after_it_began CHECK (ended_at >= began_at),
    CONSTRAINT suspension_end_is_whole CHECK (num_nonnulls(ended_at, ended_by) IN (0, 2)),
    CONSTRAINT suspension_end_is_known CHECK (ended_by IN (1, 2))
);

CREATE UNIQUE INDEX suspension_one_at_a_time ON suspension (account_no, level, entity_no)
    WHERE ended_at IS NULL;
CREATE INDEX suspension_in_order ON suspension (account_no, level, entity_no, began_at);
CREATE INDEX suspension_ended ON suspension (ended_at);

-- Up to when some replica has carried the minutes over: into `pace_hour` and `demand_day`, and kappa. One
-- row for each kind of work; whoever has it locked does the work for all.
CREATE TABLE pace_turn (
    work    text        NOT NULL,
    done_at timestamptz NOT NULL,
    CONSTRAINT pace_turn_pkey PRIMARY KEY (work)
);
