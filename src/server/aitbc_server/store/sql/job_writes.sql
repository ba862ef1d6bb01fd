-- Writes take a whole batch in one step: ?1 is a JSON array with one array for each row, ?2 the
-- bytes that its rows point into by offset and length. (executemany would take the GIL for each
-- row.) Guards are in the WHERE: a row that lost its race is simply not changed. The + before
-- jobs.status keeps its index out of the plan: jobs are found by their primary key, one by one, not
-- by scanning all that are pending (a test reads the plans).

-- name: insert_jobs
INSERT INTO jobs (
    job_id, owner, model, priority, max_attempts, max_tokens, created_us, deadline_us, task, asks,
    is_kept
)
SELECT
    value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
    value ->> 7, value ->> 8, value ->> 9, value ->> 10
FROM json_each(?1);

-- name: insert_specs
INSERT INTO specs (job_id, spec, prompt_salt, prompt_hash, request_id, request_hash)
SELECT
    value ->> 0, substr(?2, 1 + (value ->> 1), value ->> 2), unhex(value ->> 3),
    unhex(value ->> 4), value ->> 5, unhex(value ->> 6)
FROM json_each(?1);

-- name: insert_request
INSERT INTO idempotency (owner, request_id, fingerprint, job_ids, created_us)
VALUES (?1, ?2, ?3, ?4, ?5);

-- name: unname_request
-- Its jobs were cancelled because nobody waited for them.
DELETE FROM idempotency WHERE owner = ?1 AND request_id = ?2;

-- name: unname_jobs
-- Else the name would go with them when they are forgotten, whatever it then names. ?1: JSON of ids.
UPDATE specs SET request_id = NULL WHERE job_id IN (SELECT value FROM json_each(?1));

-- name: begin_jobs
-- pending -> running
UPDATE jobs SET
    status = 'running', lease_id = e.lease_id, attempt = e.attempt, miner_id = e.miner_id,
    started_us = e.started_us, claim_s = e.claim_s, not_before_us = NULL
FROM (
    SELECT
        value ->> 0 AS job_id, value ->> 1 AS lease_id, value ->> 2 AS attempt,
        value ->> 3 AS miner_id, value ->> 4 AS started_us, value ->> 5 AS claim_s
    FROM json_each(?1)
) AS e
WHERE jobs.job_id = e.job_id AND +jobs.status = 'pending' AND jobs.attempt = e.attempt - 1;

-- name: begun_jobs
-- Which of a batch hold the lease that the batch gave them, now or at an earlier try.
SELECT json_group_array(jobs.job_id)
FROM json_each(?1) AS e CROSS JOIN jobs ON jobs.job_id = e.value ->> 0
WHERE
    jobs.status = 'running' AND jobs.lease_id = e.value ->> 1 AND jobs.miner_id = e.value ->> 3;

-- name: completable_jobs
-- Which of a batch can be completed, by their places in it, and what their receipts tell of them.
SELECT
    json_group_array(
        json_array(
            e.key, jobs.owner, jobs.model, jobs.miner_id, jobs.attempt, jobs.started_us,
            hex(specs.prompt_hash), hex(specs.request_hash)
        )
    )
FROM json_each(?1) AS e CROSS JOIN jobs ON jobs.job_id = e.value ->> 0
LEFT JOIN specs ON specs.job_id = jobs.job_id
WHERE jobs.status = 'running' AND jobs.lease_id = e.value ->> 1;

-- name: insert_completed_attempts
-- Of the jobs that can be completed, as the next two.
INSERT INTO attempts (job_id, attempt, miner_id, started_us, ended_us, outcome, statement)
SELECT
    value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, 'completed',
    unhex(value ->> 5)
FROM json_each(?1);

-- name: insert_results
-- A part of an empty blob is NULL: all results of a batch may be empty.
INSERT INTO results (job_id, result, details, result_salt)
SELECT
    value ->> 0, coalesce(CAST(substr(?2, 1 + (value ->> 1), value ->> 2) AS TEXT), ''),
    nullif(substr(?2, 1 + (value ->> 3), value ->> 4), x''), unhex(value ->> 5)
FROM json_each(?1);

-- name: complete_jobs
-- running -> completed
UPDATE jobs SET
    status = 'completed', prompt_tokens = e.prompt_tokens,
    completion_tokens = e.completion_tokens, finish_reason = e.finish_reason,
    finished_us = e.finished_us
FROM (
    SELECT
        value ->> 0 AS job_id, value ->> 1 AS prompt_tokens, value ->> 2 AS completion_tokens,
        value ->> 3 AS finish_reason, value ->> 4 AS finished_us
    FROM json_each(?1)
) AS e
WHERE jobs.job_id = e.job_id AND +jobs.status = 'running';

-- name: endable_jobs
SELECT json_group_array(jobs.job_id)
FROM json_each(?1) AS e CROSS JOIN jobs ON jobs.job_id = e.value ->> 0
WHERE
    jobs.status = iif(e.value ->> 1 IS NULL, 'pending', 'running')
    AND (e.value ->> 1 IS NULL OR jobs.lease_id = e.value ->> 1)
    AND e.value ->> 2 IN ('failed', 'cancelled', iif(e.value ->> 1 IS NULL, NULL, 'pending'));

-- name: insert_ended_attempts
INSERT INTO attempts (
    job_id, attempt, miner_id, started_us, ended_us, outcome, error_code, error_message
)
SELECT
    jobs.job_id, jobs.attempt, jobs.miner_id, jobs.started_us, e.value ->> 5, e.value ->> 2,
    e.value ->> 3, e.value ->> 4
FROM json_each(?1) AS e CROSS JOIN jobs ON jobs.job_id = e.value ->> 0
WHERE
    jobs.status = 'running' AND jobs.lease_id = e.value ->> 1
    AND e.value ->> 2 IN ('failed', 'cancelled', 'pending');

-- name: end_jobs
-- pending -> failed | cancelled, running -> pending | failed | cancelled
UPDATE jobs SET
    status = e.status,
    error_code = iif(e.status = 'pending', NULL, coalesce(e.job_code, e.error_code)),
    error_message = iif(e.status = 'pending', NULL, coalesce(e.job_message, e.error_message)),
    finished_us = iif(e.status = 'pending', NULL, e.ended_us),
    not_before_us = e.not_before_us,
    max_attempts = max_attempts + e.is_free,
    vanishes = e.vanishes
FROM (
    SELECT
        value ->> 0 AS job_id, value ->> 1 AS lease_id, value ->> 2 AS status,
        value ->> 3 AS error_code, value ->> 4 AS error_message, value ->> 5 AS ended_us,
        value ->> 6 AS not_before_us, value ->> 7 AS is_free, value ->> 8 AS vanishes,
        value ->> 9 AS job_code, value ->> 10 AS job_message
    FROM json_each(?1)
) AS e
WHERE
    jobs.job_id = e.job_id
    AND jobs.status = iif(e.lease_id IS NULL, 'pending', 'running')
    AND (e.lease_id IS NULL OR jobs.lease_id = e.lease_id)
    AND e.status IN ('failed', 'cancelled', iif(e.lease_id IS NULL, NULL, 'pending'));

-- name: flag_cancels
UPDATE jobs SET cancel_requested_us = e.requested_us, is_abandoned = e.is_abandoned
FROM (
    SELECT value ->> 0 AS job_id, value ->> 1 AS requested_us, value ->> 2 AS is_abandoned
    FROM json_each(?1)
) AS e
WHERE
    jobs.job_id = e.job_id AND +jobs.status = 'running' AND jobs.cancel_requested_us IS NULL;

-- name: upsert_miners
-- The first owner stays: a registration for another one, which crossed its own, changes nothing.
INSERT INTO miners (
    miner_id, models, gpu_info, public_key, agent_version, registered_us, owner, seen_us,
    has_proved
)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (miner_id) DO UPDATE SET
    models = excluded.models, gpu_info = excluded.gpu_info, public_key = excluded.public_key,
    agent_version = excluded.agent_version, owner = excluded.owner, seen_us = excluded.seen_us,
    has_proved = excluded.has_proved
WHERE miners.owner IS NULL OR miners.owner = excluded.owner;

-- name: remove_miners
DELETE FROM miners WHERE miner_id IN (SELECT value FROM json_each(?1));

-- name: note_miners
UPDATE miners SET seen_us = max(miners.seen_us, e.seen_us)
FROM (SELECT value ->> 0 AS miner_id, value ->> 1 AS seen_us FROM json_each(?1)) AS e
WHERE miners.miner_id = e.miner_id;

-- name: drain_miner
-- Since the first time that it was asked for.
UPDATE miners SET drained_us = CASE WHEN ?2 IS NULL THEN NULL ELSE coalesce(drained_us, ?2) END
WHERE miner_id = ?1;
