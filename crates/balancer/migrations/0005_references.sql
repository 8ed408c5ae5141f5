-- What a reference node's reports have shown, and what it has earned and is held back.
ALTER TABLE nodes ADD COLUMN audits INTEGER NOT NULL DEFAULT 0;
-- Reports that the others contradicted: in all, and since the last canary that it met.
ALTER TABLE nodes ADD COLUMN outvoted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN outvoted_lately INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN canaries_met INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN canaries_missed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN canary_asked_ms INTEGER;
-- Since when it has pay that no canary has confirmed.
ALTER TABLE nodes ADD COLUMN held_since_ms INTEGER;
ALTER TABLE nodes ADD COLUMN held_forfeited INTEGER NOT NULL DEFAULT 0;
-- Why and when the balancer took the role from it.
ALTER TABLE nodes ADD COLUMN role_lost TEXT;
ALTER TABLE nodes ADD COLUMN role_lost_ms INTEGER;

-- Verified answers to the operator's own prompts, to make canaries of. `log_probabilities` are
-- little-endian u16.
CREATE TABLE canary_stock (
    id                INTEGER PRIMARY KEY,
    model             TEXT    NOT NULL,
    prompt            BLOB    NOT NULL,
    output            BLOB    NOT NULL,
    log_probabilities BLOB    NOT NULL,
    sampling          TEXT    NOT NULL,
    max_tokens        INTEGER NOT NULL,
    seed              TEXT    NOT NULL,
    ended             TEXT    NOT NULL,
    made_ms           INTEGER NOT NULL,
    -- When references that agree with each other contradicted it.
    retired_ms        INTEGER
) STRICT;
CREATE INDEX canary_stock_of_model ON canary_stock (model) WHERE retired_ms IS NULL;

-- A node that has had a prompt of the stock before it might know it again.
CREATE TABLE canary_seen (
    stock INTEGER NOT NULL REFERENCES canary_stock (id),
    node  TEXT    NOT NULL,
    PRIMARY KEY (stock, node)
) STRICT, WITHOUT ROWID;

-- Jobs that are canaries, and the first position that was changed; null for none.
CREATE TABLE canaries (
    job     TEXT    PRIMARY KEY REFERENCES jobs (id),
    stock   INTEGER NOT NULL REFERENCES canary_stock (id),
    changed INTEGER
) STRICT, WITHOUT ROWID;
