-- The payments of an account, wherever their money is kept: for lists by account that are not of one tenant.
CREATE INDEX payment_by_account ON payment (account_id, serial) WHERE account_id IS NOT NULL;
CREATE INDEX payment_by_trace ON payment (traced_account_id, serial) WHERE account_id IS NULL;
