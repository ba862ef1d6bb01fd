-- Files of clients, their content in parts.

CREATE TABLE files (
    file_id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    filename TEXT NOT NULL,
    purpose TEXT NOT NULL CHECK (purpose IN ('batch', 'batch_output')),
    created_us INTEGER NOT NULL,
    expires_us INTEGER,
    size INTEGER NOT NULL DEFAULT 0,
    is_finished INTEGER NOT NULL DEFAULT 0 CHECK (is_finished IN (0, 1)),
    -- Whether it is deleted, and its content about to be.
    is_gone INTEGER NOT NULL DEFAULT 0 CHECK (is_gone IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE INDEX files_by_owner ON files (owner, file_id, is_gone, size);
CREATE INDEX files_gone ON files (file_id) WHERE is_gone;
CREATE INDEX files_expiring ON files (expires_us) WHERE expires_us IS NOT NULL AND NOT is_gone;

CREATE TABLE file_parts (
    file_id TEXT NOT NULL,
    -- Bytes before it.
    start INTEGER NOT NULL,
    content BLOB NOT NULL,
    UNIQUE (file_id, start)
) STRICT;
