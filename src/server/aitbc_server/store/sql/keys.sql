-- name: changed_keys
SELECT
    key_id, digest, role, name, created_us, expires_us, revoked_us, last_used_us, limits, models,
    revision
FROM keys WHERE revision > ?1
ORDER BY revision;

-- name: all_keys
SELECT
    key_id, digest, role, name, created_us, expires_us, revoked_us, last_used_us, limits, models,
    revision
FROM keys
ORDER BY created_us, key_id;

-- name: insert_key
INSERT INTO keys (key_id, digest, role, name, created_us, expires_us, limits, models, revision)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, coalesce(max(revision), 0) + 1 FROM keys;

-- name: revoke_key
-- A key that was revoked before keeps the time at which it was.
UPDATE keys SET
    revoked_us = coalesce(revoked_us, ?2), revision = (SELECT max(revision) + 1 FROM keys)
WHERE key_id = ?1;

-- name: limit_key
-- ?2 is a JSON object; a limit whose value in it is null is the configured one again.
UPDATE keys SET
    limits = json_patch(limits, ?2), revision = (SELECT max(revision) + 1 FROM keys)
WHERE key_id = ?1;

-- name: set_models
-- Of a miner's key: no other serves models.
UPDATE keys SET
    models = ?2, revision = (SELECT max(revision) + 1 FROM keys)
WHERE key_id = ?1 AND role = 'miner';

-- name: note_uses
UPDATE keys SET last_used_us = max(coalesce(last_used_us, 0), e.used_us)
FROM (SELECT value ->> 0 AS key_id, value ->> 1 AS used_us FROM json_each(?1)) AS e
WHERE keys.key_id = e.key_id;
