-- What jobs have announced, so that each crossing and each promise is told of once (R-34, R-73).

-- 0 nothing, 1 that it is due soon, 2 that it is overdue.
ALTER TABLE promised_payment ADD COLUMN announced smallint NOT NULL DEFAULT 0;
ALTER TABLE promised_payment ADD CONSTRAINT announcement_is_known CHECK (announced BETWEEN 0 AND 2);

CREATE INDEX promised_payment_to_announce ON promised_payment (due_day)
    WHERE outstanding_micros > 0 AND announced < 2;

-- Accounts whose balance is watched: up to which entry their spend is counted, and on which side of the line
-- they were found.
CREATE TABLE balance_watch (
    tenant_id     bigint  NOT NULL,
    account_id    bigint  NOT NULL,
    counted       bigint  NOT NULL,
    looked_at_day date    NOT NULL,
    low           boolean NOT NULL DEFAULT false,
    crossings     bigint  NOT NULL DEFAULT 0,
    CONSTRAINT balance_watch_pkey PRIMARY KEY (tenant_id, account_id),
    CONSTRAINT watch_counts_forward CHECK (counted >= 0 AND crossings >= 0)
);

-- What an account spent on a Moscow day; only the days that R-34 averages over are kept.
CREATE TABLE spend_day (
    tenant_id    bigint NOT NULL,
    account_id   bigint NOT NULL,
    day          date   NOT NULL,
    spent_micros bigint NOT NULL,
    CONSTRAINT spend_day_pkey PRIMARY KEY (tenant_id, account_id, day),
    CONSTRAINT spend_of_a_day_is_positive CHECK (spent_micros > 0)
);
