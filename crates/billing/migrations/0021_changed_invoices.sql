-- A deferred invoice that another payer pays, or that is paid by another method (R-102).

-- 1 bank transfer, 2 card.
ALTER TABLE invoice ADD COLUMN method smallint NOT NULL DEFAULT 1;
-- Of a payer that took the place of the account's own; for the latter the account knows it.
ALTER TABLE invoice ADD COLUMN payer_address text;
-- The document that names that payer. Documents never change, so those of payers before stay.
ALTER TABLE invoice ADD COLUMN document_id uuid;

ALTER TABLE invoice ADD CONSTRAINT invoice_method_is_known CHECK (method IN (1, 2));
ALTER TABLE invoice ADD CONSTRAINT another_payer_has_its_document
    CHECK ((payer_address IS NULL) = (document_id IS NULL));
ALTER TABLE invoice ADD CONSTRAINT only_a_deferred_invoice_changes
    CHECK (terms = 2 OR (method = 1 AND document_id IS NULL));
