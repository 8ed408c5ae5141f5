-- How long a node's last ban was: whatever became of the clock meanwhile, it is kept from jobs no
-- longer than that from when it comes back.
ALTER TABLE nodes ADD COLUMN banned_ms INTEGER NOT NULL DEFAULT 0;
UPDATE nodes SET banned_ms = 30 * 24 * 3600 * 1000 WHERE banned_until_ms > 0;
