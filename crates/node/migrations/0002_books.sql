-- Points that a failed verdict took, and each reference's figures as a JSON list.
ALTER TABLE work ADD COLUMN forfeited INTEGER;
ALTER TABLE work ADD COLUMN findings TEXT NOT NULL DEFAULT '[]';

-- Lists, sums and buckets read these alone: whatever is searched, sorted or added up is in them.
DROP INDEX work_by_time;
CREATE INDEX work_by_start ON work (
    started_ms, verdict, model_name, input_tokens, output_tokens, finished_ms, tokens_per_second,
    points
);
CREATE INDEX work_by_end ON work (
    coalesce(finished_ms, started_ms), verdict, points, forfeited, output_tokens, started_ms,
    finished_ms
);
