-- Ids and hashes are lower-case hexadecimal text, times are Unix milliseconds, amounts are
-- micro-points, token ids are little-endian u32 blobs.

CREATE TABLE api_keys (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL,
    hash       TEXT    NOT NULL UNIQUE,
    limit_micro INTEGER,
    created_ms INTEGER NOT NULL,
    revoked_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX api_keys_live_name ON api_keys (name) WHERE revoked_ms IS NULL;

CREATE TABLE models (
    id           TEXT    PRIMARY KEY,
    name         TEXT    NOT NULL,
    head         BLOB    NOT NULL,
    input_price  INTEGER NOT NULL CHECK (input_price >= 0),
    output_price INTEGER NOT NULL CHECK (output_price >= 0),
    added_ms     INTEGER NOT NULL,
    removed_ms   INTEGER
) STRICT;
CREATE UNIQUE INDEX models_live_name ON models (name) WHERE removed_ms IS NULL;

CREATE TABLE nodes (
    id              TEXT    PRIMARY KEY,
    reference       INTEGER NOT NULL DEFAULT 0,
    software        TEXT    NOT NULL DEFAULT '',
    first_seen_ms   INTEGER,
    last_seen_ms    INTEGER,
    verified        INTEGER NOT NULL DEFAULT 0,
    failures        INTEGER NOT NULL DEFAULT 0,
    banned_until_ms INTEGER NOT NULL DEFAULT 0,
    tokens_per_second REAL
) STRICT;

CREATE TABLE jobs (
    id            TEXT    PRIMARY KEY,
    client        TEXT    NOT NULL,
    model         TEXT    NOT NULL,
    model_name    TEXT    NOT NULL,
    prompt        BLOB,
    prompt_tokens INTEGER NOT NULL,
    prompt_hash   TEXT    NOT NULL,
    sampling      TEXT    NOT NULL,
    max_tokens    INTEGER NOT NULL,
    stop          TEXT    NOT NULL,
    seed          TEXT    NOT NULL,
    input_price   INTEGER NOT NULL,
    output_price  INTEGER NOT NULL,
    wait          INTEGER NOT NULL,
    keep          INTEGER NOT NULL,
    run           INTEGER NOT NULL DEFAULT 1,
    state         TEXT    NOT NULL CHECK (state IN ('running', 'auditing', 'done')),
    -- How the output ended: a finish reason, or 'failed'.
    ended         TEXT,
    error         TEXT,
    output        BLOB,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    output_hash   TEXT,
    cost          INTEGER NOT NULL DEFAULT 0,
    verdict       TEXT    NOT NULL DEFAULT 'pending',
    reason        TEXT    NOT NULL DEFAULT '',
    delivered     INTEGER NOT NULL DEFAULT 0,
    created_ms    INTEGER NOT NULL,
    finished_ms   INTEGER,
    settled_ms    INTEGER
) STRICT;
CREATE INDEX jobs_open ON jobs (state) WHERE state <> 'done';
CREATE INDEX jobs_with_text ON jobs (finished_ms) WHERE prompt IS NOT NULL;

CREATE TABLE attempts (
    job         TEXT    NOT NULL REFERENCES jobs (id),
    attempt     INTEGER NOT NULL,
    run         INTEGER NOT NULL,
    node        TEXT    NOT NULL,
    nonce       TEXT    NOT NULL UNIQUE,
    start       INTEGER NOT NULL,
    -- The output position after the last token that arrived, and after the last closed chunk.
    received    INTEGER NOT NULL,
    committed   INTEGER NOT NULL,
    chunks      INTEGER NOT NULL DEFAULT 0,
    head        TEXT    NOT NULL,
    finish      TEXT,
    claimed_ms  INTEGER NOT NULL,
    ended_ms    INTEGER,
    -- 'finished', 'released', 'lease_ended' or 'cancelled'
    ended       TEXT,
    paid_tokens INTEGER NOT NULL DEFAULT 0,
    gross       INTEGER NOT NULL DEFAULT 0,
    share       INTEGER NOT NULL DEFAULT 0,
    verdict     TEXT    NOT NULL DEFAULT 'pending',
    reason      TEXT    NOT NULL DEFAULT '',
    PRIMARY KEY (job, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_of_node ON attempts (node, claimed_ms);

CREATE TABLE audits (
    id          TEXT    PRIMARY KEY,
    job         TEXT    NOT NULL REFERENCES jobs (id),
    run         INTEGER NOT NULL,
    node        TEXT    NOT NULL,
    step        TEXT    NOT NULL CHECK (step IN ('offered', 'accepted', 'committed', 'reported', 'expired', 'declined')),
    commitment  TEXT,
    signature   TEXT,
    report      TEXT,
    -- What the receipt shows of the report once its tokens are deleted.
    figures     TEXT,
    pay         INTEGER NOT NULL DEFAULT 0,
    offered_ms  INTEGER NOT NULL,
    finished_ms INTEGER
) STRICT;
CREATE INDEX audits_of_job ON audits (job);
CREATE INDEX audits_of_node ON audits (node, offered_ms);

-- Append-only. All postings of one key were written together and sum to zero.
CREATE TABLE postings (
    id      INTEGER PRIMARY KEY,
    key     TEXT    NOT NULL,
    account TEXT    NOT NULL,
    amount  INTEGER NOT NULL CHECK (amount <> 0),
    at_ms   INTEGER NOT NULL,
    UNIQUE (key, account)
) STRICT;
CREATE INDEX postings_of_account ON postings (account, amount);

CREATE TABLE balances (
    account TEXT    PRIMARY KEY,
    balance INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER postings_add AFTER INSERT ON postings BEGIN
    INSERT INTO balances (account, balance) VALUES (NEW.account, NEW.amount)
    ON CONFLICT (account) DO UPDATE SET balance = balance + NEW.amount;
END;
CREATE TRIGGER postings_never_change BEFORE UPDATE ON postings BEGIN
    SELECT RAISE(ABORT, 'postings are append-only');
END;
CREATE TRIGGER postings_never_go BEFORE DELETE ON postings BEGIN
    SELECT RAISE(ABORT, 'postings are append-only');
END;
