-- Jobs may be forgotten: their texts, attempts and request ids are deleted, their receipts stay.

-- Request id that made the job, so that what is kept of it can go with the job. Written once.
ALTER TABLE specs ADD COLUMN request_id TEXT;

-- MATERIALIZED: else every request would be compared with every job.
WITH named AS MATERIALIZED (
    SELECT j.value AS job_id, i.request_id
    FROM idempotency AS i CROSS JOIN json_each(i.job_ids) AS j
)
UPDATE specs SET request_id = named.request_id
FROM named
WHERE specs.job_id = named.job_id;

-- Receipts whose jobs were forgotten: the job of every other receipt must be there. Append-only.
CREATE TABLE forgotten (
    leaf_index INTEGER PRIMARY KEY REFERENCES receipts (leaf_index)
) STRICT;

-- How many of the final jobs were forgotten: the others must be there.
ALTER TABLE totals ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0;
