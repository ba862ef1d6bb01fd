-- name: origin
SELECT origin FROM ledger;

-- name: keys
SELECT public_key, endorsement, created_us FROM ledger_keys ORDER BY number;

-- name: size
SELECT coalesce(max(leaf_index) + 1, 0) FROM receipts;

-- name: receipt
SELECT
    leaf_index, receipts.job_id, leaf_hash, body, specs.prompt_salt, results.result_salt,
    attempts.statement, miners.owner
FROM receipts
LEFT JOIN specs ON specs.job_id = receipts.job_id
LEFT JOIN results ON results.job_id = receipts.job_id
LEFT JOIN attempts ON attempts.job_id = receipts.job_id AND attempts.outcome = 'completed'
LEFT JOIN miners ON miners.miner_id = attempts.miner_id
WHERE receipts.job_id = ?1;

-- name: receipt_by_hash
SELECT leaf_index, job_id, leaf_hash, body FROM receipts WHERE leaf_hash = ?1;

-- name: page
SELECT leaf_index, job_id, leaf_hash, body FROM receipts
WHERE leaf_index >= :first AND leaf_index < :before
ORDER BY leaf_index DESC LIMIT :limit;

-- name: page_client
SELECT leaf_index, job_id, leaf_hash, body FROM receipts INDEXED BY receipts_by_client
WHERE client = :client AND leaf_index >= :first AND leaf_index < :before
ORDER BY leaf_index DESC LIMIT :limit;

-- name: page_miner
SELECT leaf_index, job_id, leaf_hash, body FROM receipts INDEXED BY receipts_by_miner
WHERE miner = :miner AND leaf_index >= :first AND leaf_index < :before
ORDER BY leaf_index DESC LIMIT :limit;

-- name: page_client_miner
SELECT leaf_index, job_id, leaf_hash, body FROM receipts INDEXED BY receipts_by_parties
WHERE client = :client AND miner = :miner AND leaf_index >= :first AND leaf_index < :before
ORDER BY leaf_index DESC LIMIT :limit;

-- name: first_since
-- First leaf that was stored at a time or after.
SELECT first_index FROM receipt_batches WHERE stored_us >= ?1 ORDER BY stored_us, first_index LIMIT 1;

-- name: leaves
SELECT leaf_hash FROM receipts WHERE leaf_index >= ?1 AND leaf_index < ?2 ORDER BY leaf_index;

-- name: nodes
SELECT hash FROM ledger_nodes
WHERE level = ?1 AND position >= ?2 AND position < ?3 ORDER BY position;

-- name: bodies
SELECT body FROM receipts WHERE leaf_index >= ?1 AND leaf_index < ?2 ORDER BY leaf_index;

-- name: batch_of
SELECT first_index, size, stored_us, public_key, signature
FROM receipt_batches JOIN ledger_keys ON number = key_number
WHERE first_index <= ?1 ORDER BY first_index DESC LIMIT 1;

-- name: batches
SELECT first_index, size, stored_us, public_key, signature
FROM receipt_batches JOIN ledger_keys ON number = key_number
WHERE first_index >= ?1 AND first_index < ?2 ORDER BY first_index;

-- name: last_block
SELECT height, tree_size, hash, note FROM blocks ORDER BY height DESC LIMIT 1;

-- name: block
SELECT height, tree_size, hash, note FROM blocks WHERE height = ?1;

-- name: block_by_hash
SELECT height, tree_size, hash, note FROM blocks WHERE hash = ?1;

-- name: block_of
SELECT height, tree_size, hash, note FROM blocks
WHERE tree_size > ?1 ORDER BY tree_size LIMIT 1;

-- name: blocks
SELECT height, tree_size, hash, note FROM blocks
WHERE height < ?1 ORDER BY height DESC LIMIT ?2;

-- name: blocks_after
SELECT height, tree_size, hash, note FROM blocks
WHERE height > ?1 ORDER BY height LIMIT ?2;

-- name: minutes
SELECT minute, jobs, tokens FROM ledger_minutes WHERE minute >= ?1 ORDER BY minute;

-- name: cosignatures
SELECT c.witness, c.height, c.time_s, c.line, b.note
FROM cosignatures AS c JOIN blocks AS b USING (height)
ORDER BY c.witness;
