-- Webhooks, and the outbox of what they are to be sent.

CREATE TABLE webhooks (
    webhook_id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    url TEXT NOT NULL,
    -- JSON array of event types.
    events TEXT NOT NULL,
    -- Messages are signed with it, so it is stored as it is.
    secret BLOB NOT NULL,
    previous_secret BLOB,
    previous_until_us INTEGER,
    is_enabled INTEGER NOT NULL DEFAULT 1 CHECK (is_enabled IN (0, 1)),
    disabled_reason TEXT,
    created_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX webhooks_by_owner ON webhooks (owner, webhook_id);

-- One row a message: the outbox while it is pending, the log afterwards.
CREATE TABLE deliveries (
    -- AUTOINCREMENT: a number is never used twice, so that the newest are those after the last seen.
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook_id TEXT NOT NULL REFERENCES webhooks (webhook_id),
    event TEXT NOT NULL,
    -- Of the job, or a test's own.
    ulid TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'failed')),
    tries INTEGER NOT NULL DEFAULT 0,
    next_us INTEGER,
    -- JSON array with an array for each attempt: time, milliseconds, status, error.
    attempts TEXT NOT NULL DEFAULT '[]',
    CHECK ((status = 'pending') = (next_us IS NOT NULL))
) STRICT;

CREATE INDEX deliveries_due ON deliveries (webhook_id, next_us) WHERE next_us IS NOT NULL;
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id);
CREATE INDEX deliveries_by_status ON deliveries (webhook_id, status);

-- In the commit that makes the job final, so that no crash comes between.
CREATE TRIGGER jobs_notified AFTER UPDATE OF status ON jobs
WHEN new.finished_us IS NOT NULL AND old.finished_us IS NULL
BEGIN
    INSERT INTO deliveries (webhook_id, event, ulid, created_us, next_us)
    SELECT webhook_id, 'job.' || new.status, substr(new.job_id, 5), new.finished_us, new.finished_us
    FROM webhooks
    WHERE owner = new.owner AND is_enabled AND instr(events, '"job.' || new.status || '"');
END;
