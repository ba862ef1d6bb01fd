-- name: webhook
SELECT
    webhook_id, owner, url, events, created_us, secret, previous_secret, previous_until_us,
    is_enabled, disabled_reason
FROM webhooks WHERE webhook_id = ?1;

-- name: webhooks
SELECT
    webhook_id, owner, url, events, created_us, secret, previous_secret, previous_until_us,
    is_enabled, disabled_reason
FROM webhooks WHERE owner = ?1 AND webhook_id > ?2
ORDER BY webhook_id LIMIT ?3;

-- name: delivery
SELECT number, webhook_id, event, ulid, created_us, status, tries, next_us, attempts, is_job_kept
FROM deliveries WHERE number = ?1;

-- name: page
SELECT number, webhook_id, event, ulid, created_us, status, tries, next_us, attempts, is_job_kept
FROM deliveries INDEXED BY deliveries_by_webhook
WHERE webhook_id = ?1 AND number < ?2
ORDER BY number DESC LIMIT ?3;

-- name: page_status
SELECT number, webhook_id, event, ulid, created_us, status, tries, next_us, attempts, is_job_kept
FROM deliveries INDEXED BY deliveries_by_status
WHERE webhook_id = ?1 AND status = ?4 AND number < ?2
ORDER BY number DESC LIMIT ?3;

-- name: due
-- What a webhook is to be sent next, the earliest first.
SELECT number, webhook_id, event, ulid, created_us, status, tries, next_us, attempts, is_job_kept
FROM deliveries INDEXED BY deliveries_due
WHERE webhook_id = ?1 AND next_us IS NOT NULL
ORDER BY next_us LIMIT ?2;

-- name: exists
SELECT EXISTS (SELECT 1 FROM webhooks);

-- name: waiting
-- Webhooks for which something waits.
SELECT webhook_id FROM webhooks
WHERE EXISTS (
    SELECT 1 FROM deliveries
    WHERE deliveries.webhook_id = webhooks.webhook_id AND next_us IS NOT NULL
);

-- name: last_number
SELECT coalesce(max(number), 0) FROM deliveries;

-- name: newer
-- Webhooks to which something was added after a number. By the primary key: an index of the webhooks
-- would give them without a sort, and all of the log with them.
SELECT DISTINCT webhook_id FROM deliveries NOT INDEXED WHERE number > ?1;
