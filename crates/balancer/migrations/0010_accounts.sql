-- Whose node it is, by the account's own word and the node's (infera_protocol::Ownership).
ALTER TABLE nodes ADD COLUMN account TEXT;
ALTER TABLE nodes ADD COLUMN linked_ms INTEGER;
CREATE INDEX nodes_of_account ON nodes (account) WHERE account IS NOT NULL;

-- Linking codes that accounts have put here for their next machines.
CREATE TABLE links (
    id         TEXT    PRIMARY KEY,
    account    TEXT    NOT NULL,
    -- What it grants (infera_protocol::account::LinkGrant), as JSON.
    terms      TEXT    NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX links_of_account ON links (account);

-- Who was linked by which, so that a node that sends it again counts no use.
CREATE TABLE linked (
    link      TEXT    NOT NULL,
    node      TEXT    NOT NULL,
    linked_ms INTEGER NOT NULL,
    PRIMARY KEY (link, node)
) STRICT, WITHOUT ROWID;

-- A key of an account spends its points. Its name here begins with the account's id and a slash.
ALTER TABLE api_keys ADD COLUMN account TEXT;
ALTER TABLE api_keys ADD COLUMN daily_limit INTEGER;
-- Where its requests may go at most: own, trusted or any.
ALTER TABLE api_keys ADD COLUMN route TEXT NOT NULL DEFAULT 'any';
CREATE INDEX api_keys_of_account ON api_keys (account) WHERE account IS NOT NULL;

ALTER TABLE jobs ADD COLUMN route TEXT NOT NULL DEFAULT 'any';
CREATE INDEX jobs_of_client ON jobs (client, created_ms);
-- What the node was to the client when it took the job: own, trusted or other.
ALTER TABLE attempts ADD COLUMN host TEXT NOT NULL DEFAULT 'other';

CREATE INDEX postings_by_time ON postings (account, at_ms);
