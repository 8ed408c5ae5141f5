-- The number of the last write of each run of a program. A commit that failed is looked up here:
-- what it wrote may be there all the same.
CREATE TABLE commits (
    run    INTEGER PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT;
