-- What is here is the node's own memory: its books as it saw them, and what it still owes the
-- balancer. Ids are lower-case hexadecimal, times are unix milliseconds, points are micro-points.

CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A job that this node has claimed, until its end is acknowledged or refused.
CREATE TABLE attempt (
    job TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    claimed_ms INTEGER NOT NULL,
    PRIMARY KEY (job, attempt)
) STRICT, WITHOUT ROWID;

-- The outbox: closed chunks that are not acknowledged.
CREATE TABLE chunk (
    job TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    number INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (job, attempt, number),
    FOREIGN KEY (job, attempt) REFERENCES attempt (job, attempt) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- The outbox: signed ends that are not acknowledged.
CREATE TABLE finish (
    job TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (job, attempt),
    FOREIGN KEY (job, attempt) REFERENCES attempt (job, attempt) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- The outbox: reports this node has made as a reference, until they are opened.
CREATE TABLE report (
    audit TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    salt TEXT NOT NULL,
    made_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE work (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    model TEXT NOT NULL,
    model_name TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    finished_ms INTEGER,
    tokens_per_second REAL,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    points INTEGER NOT NULL,
    PRIMARY KEY (kind, id, attempt)
) STRICT, WITHOUT ROWID;

CREATE INDEX work_by_time ON work (started_ms DESC);
