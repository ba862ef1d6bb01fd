-- The first schema. Times are microseconds since the Unix epoch, UTC.

-- One row a job: small, and rewritten at each change of status.
CREATE TABLE jobs (
    job_id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    model TEXT NOT NULL,
    priority INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
    max_attempts INTEGER NOT NULL,
    max_tokens INTEGER,
    created_us INTEGER NOT NULL,
    deadline_us INTEGER,
    not_before_us INTEGER,
    attempt INTEGER NOT NULL DEFAULT 0,
    -- Lease and miner of the present or last attempt.
    lease_id TEXT,
    miner_id TEXT,
    started_us INTEGER,
    -- Seconds a claim lasts; NULL for a lease that its session renews.
    claim_s REAL,
    cancel_requested_us INTEGER,
    finished_us INTEGER,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    finish_reason TEXT,
    error_code TEXT,
    error_message TEXT,
    CHECK ((status IN ('completed', 'failed', 'cancelled')) = (finished_us IS NOT NULL)),
    CHECK (status <> 'running' OR lease_id IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX jobs_by_owner ON jobs (owner, job_id);
CREATE INDEX jobs_by_status ON jobs (status, owner, job_id);
CREATE INDEX jobs_by_model ON jobs (owner, model, job_id);

-- What was submitted: written once. A table of its own, so that a change of status does not
-- rewrite the prompt.
CREATE TABLE specs (
    job_id TEXT PRIMARY KEY REFERENCES jobs (job_id),
    spec BLOB NOT NULL
) STRICT;

-- What was answered: written once, with the job's completion.
CREATE TABLE results (
    job_id TEXT PRIMARY KEY REFERENCES jobs (job_id),
    result TEXT NOT NULL
) STRICT;

-- One row a lease that ended. Append-only.
CREATE TABLE attempts (
    job_id TEXT NOT NULL REFERENCES jobs (job_id),
    attempt INTEGER NOT NULL,
    miner_id TEXT NOT NULL,
    started_us INTEGER NOT NULL,
    ended_us INTEGER NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('completed', 'failed', 'cancelled', 'pending')),
    error_code TEXT,
    error_message TEXT,
    PRIMARY KEY (job_id, attempt)
) STRICT, WITHOUT ROWID;

-- What a request id made.
CREATE TABLE idempotency (
    owner TEXT NOT NULL,
    request_id TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    job_ids TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    PRIMARY KEY (owner, request_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE miners (
    miner_id TEXT PRIMARY KEY,
    models TEXT NOT NULL,
    gpu_info BLOB,
    public_key BLOB NOT NULL,
    agent_version TEXT NOT NULL,
    registered_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Final jobs, counted where they become final, so that no statistic ever scans the jobs.
CREATE TABLE totals (
    status TEXT PRIMARY KEY,
    jobs INTEGER NOT NULL DEFAULT 0,
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

INSERT INTO totals (status) VALUES ('completed'), ('failed'), ('cancelled');

CREATE TRIGGER jobs_counted AFTER UPDATE OF status ON jobs
WHEN new.finished_us IS NOT NULL AND old.finished_us IS NULL
BEGIN
    UPDATE totals SET
        jobs = jobs + 1,
        prompt_tokens = prompt_tokens + coalesce(new.prompt_tokens, 0),
        completion_tokens = completion_tokens + coalesce(new.completion_tokens, 0)
    WHERE status = new.status;
END;
