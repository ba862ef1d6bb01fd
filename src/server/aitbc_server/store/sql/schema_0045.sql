-- Cosignatures of checkpoints: of each witness, that of the newest block that it cosigned.
CREATE TABLE cosignatures (
    -- Its verifier key, which names it.
    witness TEXT PRIMARY KEY,
    height INTEGER NOT NULL REFERENCES blocks (height),
    -- Seconds since the Unix epoch, by the witness's clock.
    time_s INTEGER NOT NULL,
    -- The line that it adds to the checkpoint.
    line TEXT NOT NULL
) STRICT, WITHOUT ROWID;
