-- What a job computes is one value, as it travels in protocol 3 (infera_protocol::Task).
ALTER TABLE jobs ADD COLUMN task TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN text_deleted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE canary_stock ADD COLUMN task TEXT NOT NULL DEFAULT '';

-- Token ids were kept as little-endian u32; a byte's value is its place among all bytes.
CREATE TEMP TABLE bytes AS SELECT CAST(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff' AS BLOB) AS every;

UPDATE jobs SET
    text_deleted = prompt IS NULL,
    task = json_object(
        'model', model,
        'input', json(coalesce((
            WITH RECURSIVE places (at) AS (
                SELECT 1 WHERE length(jobs.prompt) >= 4
                UNION ALL
                SELECT at + 4 FROM places WHERE at + 7 <= length(jobs.prompt)
            )
            SELECT json_group_array(
                instr(every, substr(jobs.prompt, at, 1)) - 1
                + ((instr(every, substr(jobs.prompt, at + 1, 1)) - 1) << 8)
                + ((instr(every, substr(jobs.prompt, at + 2, 1)) - 1) << 16)
                + ((instr(every, substr(jobs.prompt, at + 3, 1)) - 1) << 24)
                ORDER BY at
            ) FROM places, bytes
        ), '[]')),
        'work', CASE WHEN texts IS NULL
            THEN json_object('write', json_object(
                'sampling', json(sampling), 'max_tokens', max_tokens, 'stop', json(stop),
                'seed', seed))
            ELSE json_object('embed', json_object('lengths', json(texts)))
        END
    );
UPDATE canary_stock SET
    task = json_object(
        'model', model,
        'input', json(coalesce((
            WITH RECURSIVE places (at) AS (
                SELECT 1 WHERE length(canary_stock.prompt) >= 4
                UNION ALL
                SELECT at + 4 FROM places WHERE at + 7 <= length(canary_stock.prompt)
            )
            SELECT json_group_array(
                instr(every, substr(canary_stock.prompt, at, 1)) - 1
                + ((instr(every, substr(canary_stock.prompt, at + 1, 1)) - 1) << 8)
                + ((instr(every, substr(canary_stock.prompt, at + 2, 1)) - 1) << 16)
                + ((instr(every, substr(canary_stock.prompt, at + 3, 1)) - 1) << 24)
                ORDER BY at
            ) FROM places, bytes
        ), '[]')),
        'work', json_object('write', json_object(
            'sampling', json(sampling), 'max_tokens', max_tokens, 'seed', seed))
    );
DROP TABLE bytes;

DROP INDEX jobs_with_text;
ALTER TABLE jobs DROP COLUMN prompt;
ALTER TABLE jobs DROP COLUMN texts;
ALTER TABLE jobs DROP COLUMN sampling;
ALTER TABLE jobs DROP COLUMN max_tokens;
ALTER TABLE jobs DROP COLUMN stop;
ALTER TABLE jobs DROP COLUMN seed;
CREATE INDEX jobs_with_text ON jobs (finished_ms) WHERE NOT text_deleted;
ALTER TABLE canary_stock DROP COLUMN prompt;
ALTER TABLE canary_stock DROP COLUMN sampling;
ALTER TABLE canary_stock DROP COLUMN max_tokens;
ALTER TABLE canary_stock DROP COLUMN seed;
