-- Since when a miner is given nothing new, because an administrator drains it.
ALTER TABLE miners ADD COLUMN drained_us INTEGER;
