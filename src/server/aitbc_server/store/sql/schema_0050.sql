-- Batches, and the lines of each that are being run.

CREATE TABLE batches (
    batch_id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    -- Whom its jobs are counted for, and the key that made it.
    account TEXT NOT NULL,
    key_id TEXT,
    endpoint TEXT NOT NULL,
    input_file_id TEXT NOT NULL,
    completion_window TEXT NOT NULL,
    -- JSON object of texts.
    metadata TEXT NOT NULL,
    keep_output_s INTEGER,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'validating',
    -- JSON array with an array for each fault: code, message, param, line.
    faults TEXT NOT NULL DEFAULT '[]',
    output_file_id TEXT,
    error_file_id TEXT,
    total INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    -- Up to where its file was read.
    read_bytes INTEGER NOT NULL DEFAULT 0,
    read_lines INTEGER NOT NULL DEFAULT 0,
    in_progress_us INTEGER,
    cancelling_us INTEGER,
    ended_us INTEGER,
    CHECK (
        (status IN ('failed', 'completed', 'expired', 'cancelled')) = (ended_us IS NOT NULL)
    )
) STRICT, WITHOUT ROWID;

CREATE INDEX batches_by_owner ON batches (owner, batch_id);
CREATE INDEX batches_active ON batches (owner, batch_id) WHERE ended_us IS NULL;
CREATE INDEX batches_ended ON batches (ended_us) WHERE ended_us IS NOT NULL;

CREATE TABLE batch_lines (
    batch_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    -- Where it is in the file.
    start INTEGER NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (batch_id, number)
) STRICT, WITHOUT ROWID;
