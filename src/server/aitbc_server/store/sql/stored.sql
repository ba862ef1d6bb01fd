-- name: all_stored
SELECT owner, bytes FROM stored;

-- name: stored
SELECT bytes FROM stored WHERE owner = ?1;

-- name: count_stored
-- ?1: JSON of (owner, bytes), negative ones of what is deleted.
INSERT INTO stored (owner, bytes)
SELECT value ->> 0, value ->> 1 FROM json_each(?1) WHERE true
ON CONFLICT (owner) DO UPDATE SET bytes = max(0, bytes + excluded.bytes)
RETURNING owner, bytes;
