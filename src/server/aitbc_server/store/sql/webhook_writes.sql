-- name: insert_webhook
-- Unless its owner has as many as allowed.
INSERT INTO webhooks (webhook_id, owner, url, events, secret, created_us)
SELECT ?1, ?2, ?3, ?4, ?5, ?6
WHERE (SELECT count(*) FROM webhooks WHERE owner = ?2) < ?7;

-- name: change_webhook
-- Enabled by its owner, it is disabled by nobody any more.
UPDATE webhooks SET
    url = coalesce(?2, url), events = coalesce(?3, events),
    is_enabled = coalesce(?4, is_enabled), disabled_reason = iif(?4 IS NULL, disabled_reason, NULL)
WHERE webhook_id = ?1;

-- name: change_secret
UPDATE webhooks SET secret = ?2, previous_secret = secret, previous_until_us = ?3
WHERE webhook_id = ?1;

-- name: disable_webhooks
UPDATE webhooks SET is_enabled = 0, disabled_reason = e.reason
FROM (SELECT value ->> 0 AS webhook_id, value ->> 1 AS reason FROM json_each(?1)) AS e
WHERE webhooks.webhook_id = e.webhook_id;

-- name: delete_webhook
DELETE FROM webhooks WHERE webhook_id = ?1;

-- name: insert_delivery
INSERT INTO deliveries (webhook_id, event, ulid, created_us, status, attempts)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
RETURNING number;

-- name: record_outcomes
UPDATE deliveries SET
    status = e.status, tries = e.tries, next_us = e.next_us, attempts = e.attempts
FROM (
    SELECT
        value ->> 0 AS number, value ->> 1 AS status, value ->> 2 AS tries, value ->> 3 AS next_us,
        value ->> 4 AS attempts
    FROM json_each(?1)
) AS e
WHERE deliveries.number = e.number;

-- name: redeliver
UPDATE deliveries SET status = 'pending', tries = 0, next_us = ?2 WHERE number = ?1;

-- name: delete_deliveries
-- Some of those of a webhook that is no more.
DELETE FROM deliveries
WHERE number IN (SELECT number FROM deliveries WHERE webhook_id = ?1 LIMIT ?2);

-- name: prune_deliveries
-- Some of the oldest: numbers grow with time, so it ends at the first that is young enough.
DELETE FROM deliveries
WHERE number IN (
    SELECT number FROM (SELECT number, created_us FROM deliveries ORDER BY number LIMIT ?2)
    WHERE created_us < ?1
);
