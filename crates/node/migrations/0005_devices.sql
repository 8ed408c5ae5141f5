-- Which device computed it: an adapter's id, or `cpu`. Nothing where this program did not see it.
ALTER TABLE work ADD COLUMN device TEXT;
