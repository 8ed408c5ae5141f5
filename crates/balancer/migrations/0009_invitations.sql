-- What operators gave out to let nodes join. Of the token only its hash is kept.
CREATE TABLE invitations (
    id         INTEGER PRIMARY KEY,
    label      TEXT    NOT NULL,
    token_hash TEXT    NOT NULL UNIQUE,
    -- What those who join by it become.
    trusted    INTEGER NOT NULL,
    reference  INTEGER NOT NULL,
    -- How many may join by it; null for any number.
    max_uses   INTEGER CHECK (max_uses > 0),
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    revoked_ms INTEGER
) STRICT;

-- Who joined by which, so that a node that sends it again counts no use.
CREATE TABLE joined (
    invitation INTEGER NOT NULL REFERENCES invitations (id),
    node       TEXT    NOT NULL,
    joined_ms  INTEGER NOT NULL,
    PRIMARY KEY (invitation, node)
) STRICT, WITHOUT ROWID;

-- The operator trusts it: its answers may go out unchecked.
ALTER TABLE nodes ADD COLUMN trusted INTEGER NOT NULL DEFAULT 0;
-- When it first joined by an invitation.
ALTER TABLE nodes ADD COLUMN joined_ms INTEGER;
