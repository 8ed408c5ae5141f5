-- Keys of those who run the network. Of each only its hash is kept.
CREATE TABLE operator_keys (
    id           INTEGER PRIMARY KEY,
    name         TEXT    NOT NULL,
    hash         TEXT    NOT NULL UNIQUE,
    created_ms   INTEGER NOT NULL,
    revoked_ms   INTEGER,
    last_used_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX operator_keys_live_name ON operator_keys (name) WHERE revoked_ms IS NULL;

-- What operators did. Nobody's name is who had the data folder itself: the command line.
CREATE TABLE operator_log (
    id     INTEGER PRIMARY KEY,
    at_ms  INTEGER NOT NULL,
    who    TEXT,
    act    TEXT    NOT NULL,
    whom   TEXT    NOT NULL,
    detail TEXT    NOT NULL
) STRICT;

-- Nodes that an operator keeps out; without `until_ms` until they are let in again.
CREATE TABLE bans (
    node     TEXT    PRIMARY KEY,
    until_ms INTEGER,
    reason   TEXT    NOT NULL,
    at_ms    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How the network did, minute by minute, for two days.
CREATE TABLE minutes (
    at_ms              INTEGER PRIMARY KEY,
    jobs               INTEGER NOT NULL,
    tokens             INTEGER NOT NULL,
    first_token_p50_ms INTEGER,
    first_token_p95_ms INTEGER,
    nodes              INTEGER NOT NULL,
    waiting            INTEGER NOT NULL
) STRICT;

-- When each API key's name was last used.
CREATE TABLE key_uses (
    name    TEXT    PRIMARY KEY,
    used_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
