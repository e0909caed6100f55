-- Holds: money set aside for a holder until a time (R-25, R-203). opened = settled + released + held.

CREATE TABLE hold (
    tenant_id       bigint      NOT NULL,
    account_id      bigint      NOT NULL,
    hold_id         uuid        NOT NULL,
    opened_micros   bigint      NOT NULL,
    settled_micros  bigint      NOT NULL DEFAULT 0,
    released_micros bigint      NOT NULL DEFAULT 0,
    late_micros     bigint      NOT NULL DEFAULT 0,
    sequence        bigint      NOT NULL DEFAULT 0,
    payload_hash    bigint      NOT NULL,
    -- 1 open, 2 expired, 3 released.
    state           smallint    NOT NULL DEFAULT 1,
    opened_at       timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    CONSTRAINT hold_pkey PRIMARY KEY (tenant_id, hold_id),
    CONSTRAINT hold_opened_is_positive CHECK (opened_micros > 0),
    CONSTRAINT hold_parts_are_not_negative
        CHECK (settled_micros >= 0 AND released_micros >= 0 AND late_micros >= 0 AND sequence >= 0),
    CONSTRAINT hold_parts_fit CHECK (settled_micros + released_micros <= opened_micros),
    CONSTRAINT closed_hold_holds_nothing
        CHECK (state = 1 OR settled_micros + released_micros = opened_micros),
    CONSTRAINT hold_state_is_known CHECK (state IN (1, 2, 3)),
    CONSTRAINT hold_expires_after_it_opens CHECK (expires_at > opened_at)
) WITH (fillfactor = 70);

CREATE INDEX hold_open_by_account ON hold (tenant_id, account_id, expires_at) WHERE state = 1;
CREATE INDEX hold_open_by_expiry ON hold (expires_at) WHERE state = 1;
CREATE INDEX hold_by_account ON hold (tenant_id, account_id, opened_at);

-- The cumulative spend that was reported per campaign; what comes in again or out of order changes nothing.
CREATE TABLE hold_spend (
    tenant_id    bigint NOT NULL,
    hold_id      uuid   NOT NULL,
    campaign     text   NOT NULL,
    spent_micros bigint NOT NULL,
    CONSTRAINT hold_spend_pkey PRIMARY KEY (tenant_id, hold_id, campaign),
    CONSTRAINT hold_spend_is_not_negative CHECK (spent_micros >= 0)
);
