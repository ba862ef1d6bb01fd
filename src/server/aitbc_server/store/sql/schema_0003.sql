-- Keys of callers. Never deleted: what was made with a key names it.
CREATE TABLE keys (
    key_id TEXT PRIMARY KEY,
    -- SHA-256 of the key's text, which is kept nowhere.
    digest BLOB NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('client', 'miner', 'admin')),
    name TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER,
    revoked_us INTEGER,
    last_used_us INTEGER,
    -- Counts up over all keys with each change, so that what changed is found by it.
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX keys_by_revision ON keys (revision);

-- Address of the key that registered the miner first; NULL when nobody did with a key.
ALTER TABLE miners ADD COLUMN owner TEXT;
