-- Models that a miner's key may serve, a JSON list of names; of all when it is empty.
ALTER TABLE keys ADD COLUMN models TEXT NOT NULL DEFAULT '[]';
