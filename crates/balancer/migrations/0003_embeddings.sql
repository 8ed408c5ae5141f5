-- Of an embedding: how many tokens each text in `prompt` has, as a JSON list. Its `output` is the
-- vectors' values as little-endian f32, one vector after the other, and its attempts count vectors.
ALTER TABLE jobs ADD COLUMN texts TEXT;
