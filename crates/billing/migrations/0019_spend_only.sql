-- Credits for invalid clicks whose month is closed may only be spent (R-26).

-- The part of the account's own money that may not leave it. Charges use it up first.
ALTER TABLE ledger_balance ADD COLUMN spend_only_micros bigint NOT NULL DEFAULT 0;
ALTER TABLE ledger_balance ADD CONSTRAINT spend_only_is_not_negative CHECK (spend_only_micros >= 0);

-- The part of the credit that went back for charges of closed months.
ALTER TABLE click_credit ADD COLUMN spend_only_micros bigint NOT NULL DEFAULT 0;
ALTER TABLE click_credit ADD CONSTRAINT spend_only_is_a_part_of_the_credit
    CHECK (spend_only_micros BETWEEN 0 AND amount_micros);
