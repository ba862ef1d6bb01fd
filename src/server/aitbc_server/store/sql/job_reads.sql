-- name: request
SELECT fingerprint, job_ids FROM idempotency WHERE owner = ?1 AND request_id = ?2;

-- name: submitted
SELECT job_id, status, created_us, error_code FROM jobs WHERE job_id = ?1;

-- name: job
SELECT
    jobs.job_id, owner, model, status, created_us, attempt, spec, miner_id, lease_id, started_us,
    cancel_requested_us, finished_us, result, prompt_tokens, completion_tokens, finish_reason,
    error_code, error_message,
    iif(?2, (
        SELECT
            json_group_array(
                json_array(
                    a.attempt, a.miner_id, a.started_us, a.ended_us, a.outcome, a.error_code,
                    a.error_message
                )
            )
        FROM attempts AS a WHERE a.job_id = jobs.job_id
    ), NULL) AS attempts,
    details,
    status = 'completed' AND EXISTS (SELECT 1 FROM receipts AS r WHERE r.job_id = jobs.job_id)
FROM jobs
JOIN specs ON specs.job_id = jobs.job_id
LEFT JOIN results ON results.job_id = jobs.job_id
WHERE jobs.job_id = ?1;

-- name: summary
-- A job without what was asked and answered.
SELECT
    jobs.job_id, owner, model, status, created_us, attempt, x'' AS spec, miner_id, lease_id, started_us,
    cancel_requested_us, finished_us, NULL AS result, prompt_tokens, completion_tokens, finish_reason,
    error_code, error_message,
    NULL AS attempts,
    NULL AS details,
    status = 'completed' AND EXISTS (SELECT 1 FROM receipts AS r WHERE r.job_id = jobs.job_id)
FROM jobs
WHERE job_id = ?1;

-- name: page_all
SELECT job_id FROM jobs INDEXED BY jobs_by_owner
WHERE owner = ?1 AND job_id >= ?4 AND job_id < ?5
ORDER BY job_id DESC LIMIT ?6;

-- name: page_status
SELECT job_id FROM jobs INDEXED BY jobs_by_status
WHERE status = ?2 AND owner = ?1 AND job_id >= ?4 AND job_id < ?5
ORDER BY job_id DESC LIMIT ?6;

-- name: page_model
SELECT job_id FROM jobs INDEXED BY jobs_by_model
WHERE owner = ?1 AND model = ?3 AND job_id >= ?4 AND job_id < ?5
ORDER BY job_id DESC LIMIT ?6;

-- name: scan_by_status
-- The next jobs in this status, ?6 of them at most, and whether each is for the model.
SELECT job_id, model = ?3 FROM jobs INDEXED BY jobs_by_status
WHERE status = ?2 AND owner = ?1 AND job_id >= ?4 AND job_id < ?5
ORDER BY job_id DESC LIMIT ?6;

-- name: scan_by_model
-- The next jobs for this model, ?6 of them at most, and whether each is in the status.
SELECT job_id, status = ?2 FROM jobs INDEXED BY jobs_by_model
WHERE owner = ?1 AND model = ?3 AND job_id >= ?4 AND job_id < ?5
ORDER BY job_id DESC LIMIT ?6;

-- name: specs
-- In the order of the array. (ORDER BY would read them all before the first.)
SELECT specs.job_id, specs.spec
FROM json_each(?1) AS e CROSS JOIN specs ON specs.job_id = e.value;

-- name: leases
SELECT job_id, status, lease_id, miner_id FROM jobs
WHERE job_id IN (SELECT value FROM json_each(?1));

-- name: live
SELECT
    job_id, owner, model, priority, attempt, max_attempts, max_tokens, created_us, deadline_us,
    not_before_us, miner_id, iif(status = 'running', lease_id, NULL) AS lease_id, started_us, claim_s,
    cancel_requested_us IS NOT NULL AS cancel_requested, is_abandoned,
    iif(attempt > 0, (
        SELECT json_group_array(DISTINCT a.miner_id) FROM attempts AS a
        WHERE a.job_id = jobs.job_id AND a.error_code IS NOT 'NOT_DELIVERED'
    ), NULL) AS failed_miners,
    iif(status = 'running', (
        SELECT length(specs.spec) FROM specs WHERE specs.job_id = jobs.job_id
    ), 0) AS spec_bytes,
    vanishes,
    iif(attempt > 0, (
        SELECT count(*) FROM attempts AS a
        WHERE a.job_id = jobs.job_id AND a.error_code = 'NOT_DELIVERED'
    ), 0) AS free_returns,
    task, asks
FROM jobs WHERE status IN ('pending', 'running')
ORDER BY job_id;

-- name: miners
SELECT miner_id, models, gpu_info, public_key, agent_version, registered_us, owner, drained_us,
    seen_us, has_proved
FROM miners;

-- name: totals
SELECT status, jobs, prompt_tokens, completion_tokens, forgotten FROM totals;
