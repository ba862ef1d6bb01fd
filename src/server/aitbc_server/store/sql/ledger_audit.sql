-- Everything, in the order in which it was made.

-- name: receipts
-- With what is kept of their jobs.
SELECT
    r.leaf_index, r.body, r.job_id, r.client, r.miner, r.leaf_hash, f.leaf_index IS NOT NULL,
    j.status, j.owner, j.model, j.miner_id, j.attempt, j.started_us, j.finished_us,
    j.prompt_tokens, j.completion_tokens, s.prompt_salt, s.spec, x.result_salt, x.result,
    x.details, j.finish_reason
FROM receipts AS r
LEFT JOIN forgotten AS f ON f.leaf_index = r.leaf_index
LEFT JOIN jobs AS j ON j.job_id = r.job_id
LEFT JOIN specs AS s ON s.job_id = r.job_id
LEFT JOIN results AS x ON x.job_id = r.job_id
ORDER BY r.leaf_index;

-- name: batches
SELECT first_index, size, stored_us, public_key, signature
FROM receipt_batches LEFT JOIN ledger_keys ON number = key_number
ORDER BY first_index;

-- name: blocks
SELECT note, height, tree_size, hash FROM blocks ORDER BY height;

-- name: nodes
SELECT level, position, hash FROM ledger_nodes;

-- name: unreceipted
-- The oldest.
SELECT min(job_id) FROM jobs AS j
WHERE
    status = 'completed'
    AND NOT EXISTS (SELECT 1 FROM receipts AS r WHERE r.job_id = j.job_id)
    AND NOT EXISTS (SELECT 1 FROM jobs_before_ledger AS b WHERE b.job_id = j.job_id);

-- name: counts
-- What there is so many of, and should be so many of. Leaves have no gaps.
SELECT
    t.status || ' jobs', (SELECT count(*) FROM jobs AS j WHERE j.status = t.status),
    t.jobs - t.forgotten
FROM totals AS t
UNION ALL
SELECT
    'receipts of forgotten jobs',
    count(*) FILTER (WHERE leaf_index < (SELECT coalesce(max(leaf_index) + 1, 0) FROM receipts)),
    count(*)
FROM forgotten;
