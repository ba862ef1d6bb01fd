-- What the miner of a completed attempt said of its work, as a serialised aitbc.v1.MinerStatement.
ALTER TABLE attempts ADD COLUMN statement BLOB;
