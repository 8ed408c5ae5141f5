-- What the node did over the last days, one stretch of the same after the other. Where there is
-- none, the program did not run.
CREATE TABLE stretch (
    from_ms INTEGER PRIMARY KEY,
    to_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    -- Of this version or an earlier one, as JSON.
    summary TEXT NOT NULL
);
