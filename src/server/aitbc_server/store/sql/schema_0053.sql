-- Whether a running job is to be cancelled because nobody waits for its answer.

ALTER TABLE jobs ADD COLUMN is_abandoned INTEGER NOT NULL DEFAULT 0;
