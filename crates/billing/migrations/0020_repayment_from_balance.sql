-- A deferred invoice that an operator repaid from the account's balance (R-103). No payment paid it: the posting
-- did.
ALTER TABLE invoice ADD COLUMN repayment_id uuid;

-- What pays an invoice is one payment or one repayment, never both and never neither.
ALTER TABLE invoice DROP CONSTRAINT paid_invoice_names_its_payment;
ALTER TABLE invoice ADD CONSTRAINT paid_invoice_names_what_paid_it
    CHECK ((state = 2) = (paid_at IS NOT NULL AND num_nonnulls(payment_id, repayment_id) = 1)
           AND (state = 2 OR num_nonnulls(paid_at, payment_id, repayment_id) = 0));
ALTER TABLE invoice ADD CONSTRAINT only_a_deferred_invoice_is_repaid
    CHECK (repayment_id IS NULL OR terms = 2);
