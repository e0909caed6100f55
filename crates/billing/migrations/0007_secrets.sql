-- Secrets that every replica must share and nobody needs to configure: made by whichever starts first.
CREATE TABLE service_secret (
    name       text        NOT NULL,
    secret     bytea       NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT service_secret_pkey PRIMARY KEY (name),
    CONSTRAINT secret_is_long CHECK (length(secret) = 32)
);
