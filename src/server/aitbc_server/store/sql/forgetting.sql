-- ?1 is a JSON array of job ids. What deletes is given those that final_jobs found in the same
-- transaction.

-- name: old_jobs
-- The next jobs by age, ?4 of them at most, up to an id: whether each became final before a time
-- and, of those that did, how many bytes their texts have.
SELECT
    job_id,
    iif(finished_us < ?3, (
        SELECT octet_length(s.spec) FROM specs AS s WHERE s.job_id = jobs.job_id
    ) + coalesce((
        SELECT octet_length(r.result) + coalesce(octet_length(r.details), 0)
        FROM results AS r WHERE r.job_id = jobs.job_id
    ), 0), NULL)
FROM jobs
WHERE job_id > ?1 AND job_id < ?2
ORDER BY job_id LIMIT ?4;

-- name: unkept_jobs
-- The first ?2 of the jobs that are not kept and became final before a time, with the bytes of their
-- texts. Those of a line of a batch stay until it is closed: its answer is made of them. They were
-- submitted as `batch BATCH_ID.LINE`, perhaps with more after another point.
SELECT
    job_id,
    coalesce((
        SELECT octet_length(s.spec) FROM specs AS s WHERE s.job_id = jobs.job_id
    ), 0) + coalesce((
        SELECT octet_length(r.result) + coalesce(octet_length(r.details), 0)
        FROM results AS r WHERE r.job_id = jobs.job_id
    ), 0)
FROM jobs INDEXED BY jobs_not_kept
WHERE
    is_kept = 0 AND finished_us < ?1
    AND NOT EXISTS (
        SELECT 1
        FROM specs AS s
        INNER JOIN batch_lines AS b ON
            b.batch_id = substr(s.request_id, 7, 32)
            AND b.number = CAST(substr(s.request_id, 40) AS INTEGER)
        WHERE s.job_id = jobs.job_id AND s.request_id GLOB 'batch batch_*'
    )
ORDER BY finished_us LIMIT ?2;

-- name: ended_jobs
-- The first ?3 of an owner's jobs in a final status, with the bytes of their texts.
SELECT
    job_id,
    coalesce((
        SELECT octet_length(s.spec) FROM specs AS s WHERE s.job_id = jobs.job_id
    ), 0) + coalesce((
        SELECT octet_length(r.result) + coalesce(octet_length(r.details), 0)
        FROM results AS r WHERE r.job_id = jobs.job_id
    ), 0)
FROM jobs INDEXED BY jobs_by_status
WHERE status = ?2 AND owner = ?1
ORDER BY job_id LIMIT ?3;

-- name: count_owned
-- An owner's jobs that are final, and the others.
SELECT count(finished_us), count(*) - count(finished_us) FROM jobs WHERE owner = ?1;

-- name: final_jobs
-- Which of them are there and final, the owners and request ids that made them, and the bytes of
-- their texts.
SELECT
    json_group_array(
        json_array(
            jobs.job_id, jobs.status, jobs.owner, specs.request_id,
            coalesce(octet_length(specs.spec), 0) + coalesce(octet_length(results.result), 0)
            + coalesce(octet_length(results.details), 0)
        )
    )
FROM json_each(?1) AS e CROSS JOIN jobs ON jobs.job_id = e.value
LEFT JOIN specs ON specs.job_id = jobs.job_id
LEFT JOIN results ON results.job_id = jobs.job_id
WHERE jobs.finished_us IS NOT NULL;

-- name: count_forgotten
-- ?1: JSON of (status, jobs).
UPDATE totals SET forgotten = forgotten + e.jobs
FROM (SELECT value ->> 0 AS status, value ->> 1 AS jobs FROM json_each(?1)) AS e
WHERE totals.status = e.status;

-- name: note_receipts
INSERT INTO forgotten (leaf_index)
SELECT r.leaf_index
FROM json_each(?1) AS e CROSS JOIN receipts AS r ON r.job_id = e.value;

-- name: delete_specs
DELETE FROM specs WHERE job_id IN (SELECT value FROM json_each(?1));

-- name: delete_results
DELETE FROM results WHERE job_id IN (SELECT value FROM json_each(?1));

-- name: delete_attempts
DELETE FROM attempts WHERE job_id IN (SELECT value FROM json_each(?1));

-- name: delete_exceptions
DELETE FROM jobs_before_ledger WHERE job_id IN (SELECT value FROM json_each(?1));

-- name: delete_jobs
DELETE FROM jobs WHERE job_id IN (SELECT value FROM json_each(?1));

-- name: blank_requests
-- ?1: JSON of (owner, request id). The fingerprint is a hash of the prompts: without it, the name is
-- taken and fits no request, until the last of its jobs is forgotten.
UPDATE idempotency SET fingerprint = x''
FROM (SELECT value ->> 0 AS owner, value ->> 1 AS request_id FROM json_each(?1)) AS e
WHERE
    idempotency.owner = e.owner AND idempotency.request_id = e.request_id
    AND idempotency.fingerprint <> x'';

-- name: delete_requests
-- ?1: JSON of (owner, request id). Those of which no job is left.
DELETE FROM idempotency
WHERE
    (owner, request_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))
    AND NOT EXISTS (
        SELECT 1 FROM json_each(idempotency.job_ids) AS j
        CROSS JOIN jobs ON jobs.job_id = j.value
    );
