-- Answers are kept 400 days; the job that forgets older ones finds them by age. Rows come in the order of
-- time, so a block range index is enough and costs an insert next to nothing.
CREATE INDEX request_by_age ON request USING brin (created_at);
