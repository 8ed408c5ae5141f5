-- The address of the network that it was done for. Nothing for what was done before this was kept.
ALTER TABLE work ADD COLUMN network TEXT;

-- Lists and sums of one network read these alone, as those of all do.
DROP INDEX work_by_start;
CREATE INDEX work_by_start ON work (
    started_ms, verdict, model_name, input_tokens, output_tokens, finished_ms, tokens_per_second,
    points, network
);
DROP INDEX work_by_end;
CREATE INDEX work_by_end ON work (
    coalesce(finished_ms, started_ms), verdict, points, forfeited, output_tokens, started_ms,
    finished_ms, network
);
