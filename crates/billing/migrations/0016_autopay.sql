-- Autopayment by card (R-120..R-128). Of a card only the provider's token, sealed, and the masked number are
-- kept; a card number never comes here.

CREATE TABLE autopay_card (
    tenant_id    bigint      NOT NULL,
    account_id   bigint      NOT NULL,
    card_id      uuid        NOT NULL,
    -- Its place among the five.
    slot         smallint    NOT NULL,
    -- The token as it is sealed, and the keyed hash that it is recognised by; forgotten when unlinked.
    token        bytea,
    token_hash   bytea,
    first6       text        NOT NULL,
    last4        text        NOT NULL,
    brand        text        NOT NULL,
    expiry_month smallint    NOT NULL,
    expiry_year  smallint    NOT NULL,
    -- 1 active, 2 refused by the provider for good, 3 unlinked.
    state        smallint    NOT NULL,
    linked_at    timestamptz NOT NULL,
    ended_at     timestamptz,
    CONSTRAINT autopay_card_pkey PRIMARY KEY (tenant_id, account_id, card_id),
    CONSTRAINT at_most_five_cards CHECK (slot BETWEEN 1 AND 5),
    CONSTRAINT a_card_is_masked CHECK (first6 ~ '^([0-9]{6})?$' AND last4 ~ '^[0-9]{4}$'),
    CONSTRAINT card_state_is_known CHECK (state IN (1, 2, 3)),
    CONSTRAINT an_unlinked_card_has_no_token
        CHECK ((state = 3) = (token IS NULL) AND (state = 3) = (token_hash IS NULL)),
    CONSTRAINT an_active_card_has_not_ended CHECK ((state = 1) = (ended_at IS NULL))
);

CREATE UNIQUE INDEX autopay_card_place ON autopay_card (tenant_id, account_id, slot) WHERE state <> 3;
CREATE UNIQUE INDEX autopay_card_is_linked_once
    ON autopay_card (tenant_id, account_id, token_hash) WHERE state <> 3;

CREATE TABLE autopay (
    tenant_id        bigint      NOT NULL,
    account_id       bigint      NOT NULL,
    card_id          uuid        NOT NULL,
    amount_micros    bigint      NOT NULL,
    threshold_micros bigint      NOT NULL,
    -- Why it is off; on when there is no reason.
    disabled_reason  smallint,
    updated_at       timestamptz NOT NULL,
    disabled_at      timestamptz,
    CONSTRAINT autopay_pkey PRIMARY KEY (tenant_id, account_id),
    -- R-121: 299 999 roubles.
    CONSTRAINT autopay_amount_is_allowed CHECK (amount_micros BETWEEN 1 AND 299999000000),
    CONSTRAINT autopay_amount_is_whole_kopecks CHECK (amount_micros % 10000 = 0),
    CONSTRAINT autopay_threshold_is_not_negative CHECK (threshold_micros >= 0),
    CONSTRAINT autopay_reason_is_known CHECK (disabled_reason BETWEEN 1 AND 6),
    CONSTRAINT autopay_is_off_since CHECK ((disabled_reason IS NULL) = (disabled_at IS NULL))
);

CREATE INDEX autopay_on ON autopay (tenant_id, account_id) WHERE disabled_reason IS NULL;

-- The intent to charge a card, written before the provider is asked for the first time (G9). Its id is the
-- idempotence key of every try.
CREATE TABLE autopay_run (
    tenant_id           bigint      NOT NULL,
    account_id          bigint      NOT NULL,
    run_id              uuid        NOT NULL,
    card_id             uuid        NOT NULL,
    amount_micros       bigint      NOT NULL,
    -- Free money when it fired.
    balance_micros      bigint      NOT NULL,
    -- 1 pending, 2 succeeded, 3 failed.
    state               smallint    NOT NULL DEFAULT 1,
    failure_reason      smallint,
    -- How often the provider was, or may have been, asked to charge; written before it is asked.
    tries               integer     NOT NULL DEFAULT 0,
    -- How often it was asked how the payment stands.
    looks               integer     NOT NULL DEFAULT 0,
    first_tried_at      timestamptz,
    last_tried_at       timestamptz,
    -- A try has no known outcome: the card may have been charged.
    in_doubt            boolean     NOT NULL DEFAULT false,
    provider_payment_id text,
    provider_reason     text,
    -- When to go on; whoever goes on moves it ahead first, as a lease.
    next_at             timestamptz NOT NULL,
    payment_id          uuid,
    created_at          timestamptz NOT NULL,
    finished_at         timestamptz,
    CONSTRAINT autopay_run_pkey PRIMARY KEY (tenant_id, account_id, run_id),
    CONSTRAINT autopay_run_id_is_unique UNIQUE (run_id),
    CONSTRAINT autopay_run_amount_is_allowed CHECK (amount_micros BETWEEN 1 AND 299999000000),
    CONSTRAINT autopay_run_state_is_known CHECK (state IN (1, 2, 3)),
    CONSTRAINT a_run_that_ended_says_when CHECK ((state = 1) = (finished_at IS NULL)),
    CONSTRAINT only_a_paid_run_has_a_payment CHECK ((state = 2) = (payment_id IS NOT NULL)),
    CONSTRAINT a_failed_run_says_why CHECK ((state = 3) = (failure_reason IS NOT NULL)),
    CONSTRAINT a_tried_run_says_when CHECK ((tries > 0) = (first_tried_at IS NOT NULL))
);

-- One in flight per account (R-128).
CREATE UNIQUE INDEX autopay_run_in_flight ON autopay_run (tenant_id, account_id) WHERE state = 1;
CREATE INDEX autopay_run_due ON autopay_run (next_at) WHERE state = 1;
CREATE INDEX autopay_run_by_account ON autopay_run (tenant_id, account_id, created_at, run_id);
-- A payment of the provider belongs to one run.
CREATE UNIQUE INDEX autopay_run_by_provider_payment
    ON autopay_run (provider_payment_id) WHERE provider_payment_id IS NOT NULL;
