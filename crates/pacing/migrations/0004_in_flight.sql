-- Slices that admissions take from by what they are expected to cost (price x chance of a charge).
--
-- The owner admits while what was charged, what is still expected and a margin for bad luck stay within the
-- slice's amount A. Charges C may come to more than A; what is beyond A had no reservation and counts in the
-- late sums of headroom and hold. Such a slice keeps reserved, in its headroom rows and its hold,
--     open or final   max(A - C, 0)
--     resolved        0
-- While it is open its owner enlarges and shrinks A and moves its end, so one slice of a campaign carries all
-- that is in flight at one replica on one day: a margin for many small slices would be many times as large.
ALTER TABLE slice
    ADD COLUMN is_expected  boolean NOT NULL DEFAULT false,
    -- What admissions that were settled or cancelled in time had taken from it.
    ADD COLUMN ended_micros bigint  NOT NULL DEFAULT 0,
    ADD CONSTRAINT slice_ended_is_not_negative CHECK (ended_micros >= 0);

-- Of what was charged: what nothing was kept back for any more, because the token had expired, the slice had
-- too little, or there was no admission. Unlike the late sums it counts charges that a slice still covered.
ALTER TABLE headroom
    ADD COLUMN overdue_micros bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT headroom_overdue_is_charged CHECK (overdue_micros BETWEEN 0 AND charged_micros);

-- What came overdue in an hour of a Moscow day, where anything did: what is kept back near the limit in the
-- same hour of the next four weeks. Levels as in `headroom`.
CREATE TABLE late_hour (
    account_no  bigint   NOT NULL,
    level       smallint NOT NULL,
    entity_no   bigint   NOT NULL,
    hour        smallint NOT NULL,
    day         date     NOT NULL,
    late_micros bigint   NOT NULL,
    CONSTRAINT late_hour_pkey PRIMARY KEY (account_no, level, entity_no, hour, day),
    CONSTRAINT late_hour_level_is_known CHECK (level IN (1, 2)),
    CONSTRAINT late_hour_is_of_a_day CHECK (hour BETWEEN 0 AND 23),
    CONSTRAINT late_hour_is_positive CHECK (late_micros > 0)
);

CREATE INDEX late_hour_day ON late_hour USING brin (day);
