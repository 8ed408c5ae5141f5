-- Jobs that the node claimed and lost, less those that were verified since.
ALTER TABLE nodes ADD COLUMN lapses INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN prefill_tokens_per_second REAL;
-- Tokens of the prompt that are paid though nothing was written after them.
ALTER TABLE attempts ADD COLUMN prefilled INTEGER NOT NULL DEFAULT 0;
