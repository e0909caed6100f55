-- The outbox (G8): what happened, written in the transaction in which it happened.
--
-- `number` runs 1, 2, 3, … in each tenant, in the order of the commits. It is given at the commit itself, by
-- a trigger that is deferred to it: the counter's row is locked after everything else that a transaction
-- locks, whenever it recorded its events, and no longer than the commit takes. `position` is given by the
-- publisher, over all tenants, when it hands an event out for the first time.

CREATE SEQUENCE event_entry_seq AS bigint MINVALUE 1;

CREATE TABLE event (
    tenant_id   bigint      NOT NULL,
    -- Orders the events of one transaction; says nothing about others.
    entry       bigint      NOT NULL DEFAULT nextval('event_entry_seq'),
    number      bigint,
    position    bigint,
    -- The id of the account that it is about; empty when nobody knows whose money it is.
    account     text        NOT NULL,
    currency    text        NOT NULL,
    payload     jsonb       NOT NULL,
    occurred_at timestamptz NOT NULL,
    CONSTRAINT event_pkey PRIMARY KEY (tenant_id, entry),
    CONSTRAINT event_number_is_unique UNIQUE (tenant_id, number),
    CONSTRAINT event_position_is_unique UNIQUE (position),
    CONSTRAINT event_is_numbered_before_it_is_handed_out CHECK (position IS NULL OR number IS NOT NULL),
    CONSTRAINT event_numbers_are_positive CHECK (number > 0 AND position > 0)
);

CREATE INDEX event_without_number ON event (tenant_id, entry) WHERE number IS NULL;
CREATE INDEX event_not_handed_out ON event (tenant_id, number) WHERE position IS NULL;

CREATE TABLE event_counter (
    tenant_id   bigint NOT NULL,
    last_number bigint NOT NULL,
    CONSTRAINT event_counter_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT event_counter_is_not_negative CHECK (last_number >= 0)
);

-- Rows without a number are this transaction's own: those of others are numbered before they can be seen.
-- The first call numbers all of them, tenants in order, so that two transactions cannot wait for each other.
CREATE FUNCTION event_number_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    own  record;
    last bigint;
BEGIN
    PERFORM FROM event WHERE tenant_id = NEW.tenant_id AND entry = NEW.entry AND number IS NULL;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    FOR own IN
        SELECT tenant_id, count(*) AS events FROM event
        WHERE number IS NULL GROUP BY tenant_id ORDER BY tenant_id
    LOOP
        INSERT INTO event_counter AS c (tenant_id, last_number) VALUES (own.tenant_id, own.events)
        ON CONFLICT (tenant_id) DO UPDATE SET last_number = c.last_number + own.events
        RETURNING c.last_number INTO last;
        UPDATE event e SET number = last - own.events + n.ordinal
        FROM (SELECT entry, row_number() OVER (ORDER BY entry) AS ordinal FROM event
              WHERE tenant_id = own.tenant_id AND number IS NULL) n
        WHERE e.tenant_id = own.tenant_id AND e.entry = n.entry;
    END LOOP;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER event_is_numbered_at_commit AFTER INSERT ON event
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION event_number_at_commit();

-- How far events have been handed out; its row is the publisher's lock.
CREATE TABLE event_head (
    only_row bool   NOT NULL DEFAULT true,
    position bigint NOT NULL,
    claims   bigint NOT NULL DEFAULT 0,
    CONSTRAINT event_head_pkey PRIMARY KEY (only_row),
    CONSTRAINT event_head_is_one_row CHECK (only_row)
);

INSERT INTO event_head (position) VALUES (0);

-- E-mail to owners of money (G9): the intent, made once in the transaction of what it tells.
CREATE TABLE notice (
    tenant_id       bigint      NOT NULL,
    notice_id       uuid        NOT NULL,
    account_id      bigint      NOT NULL,
    -- 1 balance low, 2 promise taken, 3 promise due soon, 4 promise overdue, 5 promise repaid,
    -- 6 auto top-up off, 7 autopayment off.
    kind            smallint    NOT NULL,
    -- What it tells of, within the kind: makes a notice happen once.
    subject_key     text        NOT NULL,
    content         jsonb       NOT NULL,
    -- 1 queued, 2 sent, 3 failed for good, 4 nobody to send it to.
    state           smallint    NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL,
    -- While queued: not before this moment; a replica that tries moves it ahead first, as a lease.
    next_attempt_at timestamptz,
    attempts        integer     NOT NULL DEFAULT 0,
    finished_at     timestamptz,
    recipient       text,
    last_error      text,
    CONSTRAINT notice_pkey PRIMARY KEY (tenant_id, notice_id),
    CONSTRAINT notice_is_made_once UNIQUE (tenant_id, kind, subject_key),
    CONSTRAINT notice_kind_is_known CHECK (kind BETWEEN 1 AND 7),
    CONSTRAINT notice_state_is_known CHECK (state BETWEEN 1 AND 4),
    CONSTRAINT a_queued_notice_has_a_next_attempt CHECK ((state = 1) = (next_attempt_at IS NOT NULL)),
    CONSTRAINT a_finished_notice_says_when CHECK ((state = 1) = (finished_at IS NULL)),
    CONSTRAINT a_sent_notice_names_its_recipient CHECK (state <> 2 OR recipient IS NOT NULL)
);

CREATE INDEX notice_due ON notice (next_attempt_at) WHERE state = 1;
CREATE INDEX notice_by_account ON notice (tenant_id, account_id, created_at);
