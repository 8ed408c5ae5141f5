-- What each reference found about an attempt's part of the output, and what an audit found: JSON
-- lists, empty until the verdict is final.
ALTER TABLE attempts ADD COLUMN findings TEXT NOT NULL DEFAULT '[]';
ALTER TABLE audits ADD COLUMN findings TEXT NOT NULL DEFAULT '[]';
