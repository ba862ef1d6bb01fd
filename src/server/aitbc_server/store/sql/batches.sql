-- name: may_read
-- Whether a batch may read a file of an owner, and how many of its batches have not ended.
SELECT
    EXISTS (
        SELECT 1 FROM files
        WHERE file_id = ?1 AND owner = ?2 AND purpose = 'batch' AND is_finished AND NOT is_gone
    ),
    (SELECT count(*) FROM batches WHERE owner = ?2 AND ended_us IS NULL);

-- name: insert_batch
INSERT INTO batches (
    batch_id, owner, account, key_id, endpoint, input_file_id, completion_window, metadata,
    keep_output_s, created_us, expires_us
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11);

-- name: begin_batch
UPDATE batches SET status = 'in_progress', total = ?2, in_progress_us = ?3
WHERE batch_id = ?1 AND status = 'validating';

-- name: fail_batch
UPDATE batches SET status = 'failed', faults = ?2, ended_us = ?3
WHERE batch_id = ?1 AND status = 'validating';

-- name: cancel_batch
UPDATE batches SET status = 'cancelling', cancelling_us = ?2, faults = ?3
WHERE batch_id = ?1 AND status IN ('validating', 'in_progress');

-- name: advance_batch
UPDATE batches
SET
    read_bytes = ?2,
    read_lines = ?3,
    output_file_id = coalesce(output_file_id, ?4),
    error_file_id = coalesce(error_file_id, ?5),
    completed = completed + ?6,
    failed = failed + ?7,
    prompt_tokens = prompt_tokens + ?8,
    completion_tokens = completion_tokens + ?9
WHERE batch_id = ?1 AND ended_us IS NULL
RETURNING output_file_id, error_file_id;

-- name: open_lines
-- ?2: JSON of (number, start, size).
INSERT INTO batch_lines (batch_id, number, start, size)
SELECT ?1, value ->> 0, value ->> 1, value ->> 2 FROM json_each(?2);

-- name: close_lines
-- ?2: JSON of numbers.
DELETE FROM batch_lines
WHERE batch_id = ?1 AND number IN (SELECT value FROM json_each(?2));

-- name: insert_output
INSERT OR IGNORE INTO files (file_id, owner, filename, purpose, created_us)
VALUES (?1, ?2, ?3, 'batch_output', ?4);

-- name: append_output
INSERT INTO file_parts (file_id, start, content)
SELECT ?1, size, ?2 FROM files WHERE file_id = ?1;

-- name: end_batch
UPDATE batches SET status = ?2, ended_us = ?3
WHERE batch_id = ?1 AND ended_us IS NULL
RETURNING output_file_id, error_file_id;

-- name: finish_output
UPDATE files SET is_finished = 1, expires_us = ?2 WHERE file_id = ?1;

-- name: delete_lines
DELETE FROM batch_lines WHERE batch_id = ?1;

-- name: delete_ended
-- Batches that ended before a time, ?2 at most.
DELETE FROM batches
WHERE
    batch_id IN (
        SELECT batch_id FROM batches WHERE ended_us IS NOT NULL AND ended_us < ?1 LIMIT ?2
    );

-- name: delete_ended_of
DELETE FROM batches WHERE owner = ?1 AND ended_us IS NOT NULL;

-- name: batch
SELECT
    batch_id, owner, account, key_id, endpoint, input_file_id, completion_window, metadata,
    keep_output_s, created_us, expires_us, status, faults, output_file_id, error_file_id, total,
    completed, failed, prompt_tokens, completion_tokens, read_bytes, read_lines, in_progress_us,
    cancelling_us, ended_us
FROM batches WHERE batch_id = ?1;

-- name: batches_of
SELECT
    batch_id, owner, account, key_id, endpoint, input_file_id, completion_window, metadata,
    keep_output_s, created_us, expires_us, status, faults, output_file_id, error_file_id, total,
    completed, failed, prompt_tokens, completion_tokens, read_bytes, read_lines, in_progress_us,
    cancelling_us, ended_us
FROM batches
WHERE owner = ?1 AND (?2 IS NULL OR batch_id < ?2)
ORDER BY batch_id DESC LIMIT ?3;

-- name: active_batches
SELECT
    batch_id, owner, account, key_id, endpoint, input_file_id, completion_window, metadata,
    keep_output_s, created_us, expires_us, status, faults, output_file_id, error_file_id, total,
    completed, failed, prompt_tokens, completion_tokens, read_bytes, read_lines, in_progress_us,
    cancelling_us, ended_us
FROM batches INDEXED BY batches_active WHERE ended_us IS NULL ORDER BY batch_id;

-- name: lines_of
SELECT number, start, size FROM batch_lines WHERE batch_id = ?1 ORDER BY number;
