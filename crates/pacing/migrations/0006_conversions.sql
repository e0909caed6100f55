-- Pay per conversion (R-149): a charge comes hours or days after its admission, on a day of its own. What is
-- kept here says how much of what was admitted is still to come, and by when. Amounts are micro-units of the
-- account's currency; days and hours are Moscow's. Only campaigns that pay per conversion have rows, and none
-- of these bounds a charge: what is expected today is kept back from grants.

-- What a campaign was admitted on a day, by hours (element 1 is 00:00 to 01:00), over all replicas: expected
-- charges (price x chance of a charge). Kept until nothing of it can come any more: 14 days.
CREATE TABLE conversion_day (
    account_no      bigint   NOT NULL,
    campaign_no     bigint   NOT NULL,
    day             date     NOT NULL,
    admitted_micros bigint[] NOT NULL,
    admitted_count  bigint[] NOT NULL,
    -- What the elements of the arrays add up to: the totals as of the last turn.
    total_micros    bigint   NOT NULL,
    total_count     bigint   NOT NULL,
    -- What these amounts are to be multiplied by: 1, or the chance of a charge where it was learned later and
    -- every admission had counted as a charge.
    scale           float8   NOT NULL DEFAULT 1,
    CONSTRAINT conversion_day_pkey PRIMARY KEY (account_no, campaign_no, day),
    CONSTRAINT conversion_day_has_hours
        CHECK (cardinality(admitted_micros) = 24 AND cardinality(admitted_count) = 24),
    CONSTRAINT conversion_day_scale_is_positive CHECK (scale > 0)
) WITH (fillfactor = 60);

CREATE INDEX conversion_day_day ON conversion_day USING brin (day);

-- The conversions of a day by whole hours since their admissions, 335 and more in one; -1 where the admission
-- is not known. Written with the charges, and learned from when the day is over.
CREATE TABLE conversion_delay (
    account_no  bigint   NOT NULL,
    campaign_no bigint   NOT NULL,
    day         date     NOT NULL,
    hours       smallint NOT NULL,
    charges     bigint   NOT NULL,
    micros      bigint   NOT NULL,
    CONSTRAINT conversion_delay_pkey PRIMARY KEY (account_no, campaign_no, day, hours),
    CONSTRAINT conversion_delay_is_an_hour CHECK (hours BETWEEN -1 AND 335),
    CONSTRAINT conversion_delay_is_positive CHECK (charges > 0 AND micros > 0)
) WITH (fillfactor = 80);

CREATE INDEX conversion_delay_day ON conversion_delay USING brin (day);

-- What was learned of a campaign, and what its open admissions are expected to bring.
CREATE TABLE conversion (
    account_no      bigint   NOT NULL,
    campaign_no     bigint   NOT NULL,
    -- Conversions by whole hours of delay; older ones weigh less.
    delays          float8[] NOT NULL,
    -- What came, and what was expected to come by the estimates and the delays; older days weigh less. Micros,
    -- charges, and the admissions that they are expected of.
    came_micros     float8   NOT NULL DEFAULT 0,
    came_charges    float8   NOT NULL DEFAULT 0,
    expected_micros float8   NOT NULL DEFAULT 0,
    expected_count  float8   NOT NULL DEFAULT 0,
    -- The chance that an admission converts, where the caller names none; null until enough is known. `pace`
    -- has it, too, and that of clicks where the campaign has paid per click.
    chance          float8,
    -- The days before this one are in the sums.
    learned_day     date     NOT NULL,
    -- The day of what follows: what is still to come in all; of admissions whose tokens are over, what comes by
    -- the end of the day, and on the next.
    day             date     NOT NULL,
    open_micros     bigint   NOT NULL DEFAULT 0,
    due_micros      bigint   NOT NULL DEFAULT 0,
    next_due_micros bigint   NOT NULL DEFAULT 0,
    CONSTRAINT conversion_pkey PRIMARY KEY (account_no, campaign_no),
    CONSTRAINT conversion_chance_is_one CHECK (chance > 0 AND chance <= 1),
    CONSTRAINT conversion_delays_have_hours CHECK (cardinality(delays) = 336),
    CONSTRAINT conversion_is_not_negative CHECK (
        came_micros >= 0 AND came_charges >= 0 AND expected_micros >= 0 AND expected_count >= 0
        AND open_micros >= 0 AND due_micros >= 0 AND next_due_micros >= 0)
) WITH (fillfactor = 50);
