-- Everything, in the order in which it was made.

-- name: receipts
SELECT leaf_index, body, job_id, client, miner, leaf_hash FROM receipts ORDER BY leaf_index;

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
