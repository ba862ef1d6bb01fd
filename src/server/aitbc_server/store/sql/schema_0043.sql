-- The last line against counts that cannot be: what is reported is checked before. Triggers, because
-- rows of older ledgers may already break the rule, and must stay as they were sealed.

CREATE TRIGGER jobs_tokens_checked
BEFORE UPDATE OF prompt_tokens, completion_tokens ON jobs
WHEN new.prompt_tokens < 0 OR new.completion_tokens < 0
BEGIN
    SELECT RAISE(ABORT, 'tokens of a job cannot be negative');
END;

-- Whether the miner has proved its key, and so must do it again in each session.
ALTER TABLE miners ADD COLUMN has_proved INTEGER NOT NULL DEFAULT 0;
