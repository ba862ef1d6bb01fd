-- How many miner processes vanished while they had the job: see POISON.
ALTER TABLE jobs ADD COLUMN vanishes INTEGER NOT NULL DEFAULT 0;

-- When a miner was last heard of, to within an hour. Those of before count from now on.
ALTER TABLE miners ADD COLUMN seen_us INTEGER NOT NULL DEFAULT 0;

UPDATE miners SET seen_us = CAST(unixepoch() AS INTEGER) * 1000000;
