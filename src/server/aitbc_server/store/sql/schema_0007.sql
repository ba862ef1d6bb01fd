-- What was used on a day (days since the Unix epoch, UTC): counted in the commit that submits or ends
-- a job, so that nothing ever counts the jobs themselves.
CREATE TABLE usage (
    day INTEGER NOT NULL,
    owner TEXT NOT NULL,
    model TEXT NOT NULL,
    -- Empty for what no miner had.
    miner_id TEXT NOT NULL,
    submitted INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    -- Price of the completed jobs: whole, and the rest in 10^-18.
    price_whole INTEGER NOT NULL DEFAULT 0,
    price_rest INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (owner, day, model, miner_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_by_day ON usage (day);
CREATE INDEX usage_by_miner ON usage (miner_id, day);
