-- The ledger. Times are microseconds since the Unix epoch, UTC.

-- How the prompt is shown in a receipt: made with the job, deleted with its text. NULL for jobs
-- that were submitted before there was a ledger.
ALTER TABLE specs ADD COLUMN prompt_salt BLOB;
ALTER TABLE specs ADD COLUMN prompt_hash BLOB;
ALTER TABLE results ADD COLUMN result_salt BLOB;

-- One row, made at the first start: the ledger's name, which every block and receipt carries.
CREATE TABLE ledger (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    origin TEXT NOT NULL
) STRICT;

-- Public keys that sign or signed, in their order; each but the first endorsed by the one before.
CREATE TABLE ledger_keys (
    number INTEGER PRIMARY KEY,
    public_key BLOB NOT NULL UNIQUE CHECK (length(public_key) = 32),
    endorsement BLOB,
    created_us INTEGER NOT NULL
) STRICT;

-- One row a completed job, made in the commit that completes it. Append-only: leaf_index counts
-- from 0 without gaps.
CREATE TABLE receipts (
    leaf_index INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL UNIQUE REFERENCES jobs (job_id),
    -- Addresses of who pays and who is paid.
    client TEXT NOT NULL,
    miner TEXT NOT NULL,
    -- Of the body; also the hash of the transaction.
    leaf_hash BLOB NOT NULL CHECK (length(leaf_hash) = 32),
    -- Canonical bytes: what is signed and hashed.
    body BLOB NOT NULL
) STRICT;

-- Each ends with leaf_index, as every index does.
CREATE INDEX receipts_by_client ON receipts (client);
CREATE INDEX receipts_by_miner ON receipts (miner);
CREATE INDEX receipts_by_parties ON receipts (client, miner);
CREATE UNIQUE INDEX receipts_by_hash ON receipts (leaf_hash);

-- One row a commit: the receipts that were signed together.
CREATE TABLE receipt_batches (
    first_index INTEGER PRIMARY KEY,
    size INTEGER NOT NULL CHECK (size > 0),
    -- Latest completion up to here.
    stored_us INTEGER NOT NULL,
    key_number INTEGER NOT NULL REFERENCES ledger_keys (number),
    signature BLOB NOT NULL CHECK (length(signature) = 64)
) STRICT;

CREATE INDEX receipt_batches_by_time ON receipt_batches (stored_us);

-- Nodes of the Merkle tree above its leaves, at every eighth height: level n covers 256^n leaves.
CREATE TABLE ledger_nodes (
    level INTEGER NOT NULL,
    position INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, position)
) STRICT, WITHOUT ROWID;

-- Signed checkpoints. Append-only.
CREATE TABLE blocks (
    height INTEGER PRIMARY KEY,
    tree_size INTEGER NOT NULL UNIQUE,
    hash BLOB NOT NULL UNIQUE,
    note TEXT NOT NULL
) STRICT;

-- What was completed in each minute that had any, for charts.
CREATE TABLE ledger_minutes (
    minute INTEGER PRIMARY KEY,
    jobs INTEGER NOT NULL,
    tokens INTEGER NOT NULL
) STRICT;

-- Jobs that were completed before there was a ledger, and so have no receipt.
CREATE TABLE jobs_before_ledger (
    job_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

INSERT INTO jobs_before_ledger (job_id) SELECT job_id FROM jobs WHERE status = 'completed';
