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
