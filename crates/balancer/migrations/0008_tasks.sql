-- What a job computes is one value, as it travels in protocol 3 (infera_protocol::Task). Its input
-- stays in a column of its own: it is what a client wrote, and is deleted before the rest.
ALTER TABLE jobs ADD COLUMN task TEXT NOT NULL DEFAULT '';
UPDATE jobs SET task = json_object('model', model, 'input', json('[]'), 'work',
    CASE WHEN texts IS NULL
        THEN json_object('write', json_object('sampling', json(sampling),
            'max_tokens', max_tokens, 'stop', json(stop), 'seed', seed))
        ELSE json_object('embed', json_object('lengths', json(texts)))
    END);
ALTER TABLE jobs DROP COLUMN texts;
ALTER TABLE jobs DROP COLUMN sampling;
ALTER TABLE jobs DROP COLUMN max_tokens;
ALTER TABLE jobs DROP COLUMN stop;
ALTER TABLE jobs DROP COLUMN seed;

ALTER TABLE canary_stock ADD COLUMN task TEXT NOT NULL DEFAULT '';
UPDATE canary_stock SET task = json_object('model', model, 'input', json('[]'), 'work',
    json_object('write', json_object('sampling', json(sampling), 'max_tokens', max_tokens,
        'seed', seed)));
ALTER TABLE canary_stock DROP COLUMN sampling;
ALTER TABLE canary_stock DROP COLUMN max_tokens;
ALTER TABLE canary_stock DROP COLUMN seed;
