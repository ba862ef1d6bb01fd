-- name: insert_receipts
INSERT INTO receipts (leaf_index, job_id, client, miner, leaf_hash, body)
SELECT
    value ->> 0, value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4),
    substr(?2, 1 + (value ->> 5), value ->> 6)
FROM json_each(?1);

-- name: insert_batch
INSERT INTO receipt_batches (first_index, size, stored_us, key_number, signature)
VALUES (?1, ?2, ?3, ?4, ?5);

-- name: insert_nodes
INSERT INTO ledger_nodes (level, position, hash)
SELECT value ->> 0, value ->> 1, unhex(value ->> 2) FROM json_each(?1);

-- name: count_minutes
INSERT INTO ledger_minutes (minute, jobs, tokens)
SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?1) WHERE true
ON CONFLICT (minute) DO UPDATE SET
    jobs = jobs + excluded.jobs, tokens = tokens + excluded.tokens;

-- name: insert_block
INSERT INTO blocks (height, tree_size, hash, note) VALUES (?1, ?2, ?3, ?4);

-- name: insert_origin
INSERT INTO ledger (id, origin) VALUES (1, ?1) ON CONFLICT (id) DO NOTHING;

-- name: insert_key
INSERT INTO ledger_keys (number, public_key, endorsement, created_us) VALUES (?1, ?2, ?3, ?4);

-- name: end
-- Leaves stored, the time of the last batch, blocks and keys.
SELECT
    coalesce((SELECT max(leaf_index) + 1 FROM receipts), 0),
    coalesce((SELECT stored_us FROM receipt_batches ORDER BY first_index DESC LIMIT 1), 0),
    coalesce((SELECT max(height) + 1 FROM blocks), 0),
    (SELECT count(*) FROM ledger_keys);

-- name: spec
SELECT spec, prompt_salt FROM specs WHERE job_id = ?1;

-- name: hash_request
UPDATE specs SET prompt_salt = ?2, prompt_hash = ?3, request_hash = ?4 WHERE job_id = ?1;

-- name: keep_cosignature
INSERT INTO cosignatures (witness, height, time_s, line) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (witness) DO UPDATE SET
    height = excluded.height, time_s = excluded.time_s, line = excluded.line
WHERE (excluded.height, excluded.time_s) > (height, time_s);
