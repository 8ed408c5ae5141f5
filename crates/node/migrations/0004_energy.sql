-- What GPUs drew, by day and by what this program did on them meanwhile. What was not measured is in
-- no row.
CREATE TABLE energy (
    -- The day's first moment in the machine's time zone, as unix time in milliseconds.
    day_ms INTEGER NOT NULL,
    adapter TEXT NOT NULL,
    -- `working`, `waiting`, `paused`
    activity TEXT NOT NULL,
    measured_ms INTEGER NOT NULL,
    millijoules INTEGER NOT NULL,
    PRIMARY KEY (day_ms, adapter, activity)
) STRICT, WITHOUT ROWID;
