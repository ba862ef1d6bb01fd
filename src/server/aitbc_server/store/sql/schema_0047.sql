-- What bounds the answer of a job beside max_tokens, as JSON; `{}` of most.
ALTER TABLE jobs ADD COLUMN asks TEXT;

-- Whether what was asked and answered is kept after the end. The index has only those of which it is
-- not, by their ends.
ALTER TABLE jobs ADD COLUMN is_kept INTEGER NOT NULL DEFAULT 1;
CREATE INDEX jobs_not_kept ON jobs (finished_us) WHERE is_kept = 0 AND finished_us IS NOT NULL;

-- Whether the job of a message is kept. Of one that is not, those who were not told in time are told
-- that it ended.
ALTER TABLE deliveries ADD COLUMN is_job_kept INTEGER NOT NULL DEFAULT 1;
DROP TRIGGER jobs_notified;
CREATE TRIGGER jobs_notified AFTER UPDATE OF status ON jobs
WHEN new.finished_us IS NOT NULL AND old.finished_us IS NULL
BEGIN
    INSERT INTO deliveries (webhook_id, event, ulid, created_us, next_us, is_job_kept)
    SELECT
        webhook_id, 'job.' || new.status, substr(new.job_id, 5), new.finished_us, new.finished_us,
        new.is_kept
    FROM webhooks
    WHERE owner = new.owner AND is_enabled AND instr(events, '"job.' || new.status || '"');
END;
