-- name: count_submitted
-- ?1: JSON of (day, owner, model, jobs).
INSERT INTO usage (day, owner, model, miner_id, submitted)
SELECT value ->> 0, value ->> 1, value ->> 2, '', value ->> 3 FROM json_each(?1) WHERE true
ON CONFLICT (owner, day, model, miner_id) DO UPDATE SET
    submitted = submitted + excluded.submitted;

-- name: count_completed
-- ?1: JSON of (day, owner, model, miner_id, jobs, prompt tokens, completion tokens, price).
INSERT INTO usage (
    day, owner, model, miner_id, completed, prompt_tokens, completion_tokens, price_whole,
    price_rest
)
SELECT
    value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
    value ->> 7, value ->> 8
FROM json_each(?1) WHERE true
ON CONFLICT (owner, day, model, miner_id) DO UPDATE SET
    completed = completed + excluded.completed,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens,
    price_whole = price_whole + excluded.price_whole
        + (price_rest + excluded.price_rest) / 1000000000000000000,
    price_rest = (price_rest + excluded.price_rest) % 1000000000000000000;

-- name: count_ended
-- ?1: the rows of end_jobs, before it: with its guard, so that what is counted is what ends.
INSERT INTO usage (day, owner, model, miner_id, failed, cancelled)
SELECT
    (e.value ->> 5) / 86400000000, jobs.owner, jobs.model, coalesce(jobs.miner_id, ''),
    sum(e.value ->> 2 = 'failed'), sum(e.value ->> 2 = 'cancelled')
FROM json_each(?1) AS e CROSS JOIN jobs ON jobs.job_id = e.value ->> 0
WHERE
    e.value ->> 2 <> 'pending'
    AND jobs.status = iif(e.value ->> 1 IS NULL, 'pending', 'running')
    AND (e.value ->> 1 IS NULL OR jobs.lease_id = e.value ->> 1)
GROUP BY 1, 2, 3, 4
ON CONFLICT (owner, day, model, miner_id) DO UPDATE SET
    failed = failed + excluded.failed, cancelled = cancelled + excluded.cancelled;

-- name: spent
SELECT
    coalesce(sum(submitted), 0), coalesce(sum(prompt_tokens + completion_tokens), 0)
FROM usage WHERE owner = ?1 AND day = ?2;

-- name: usage
-- ?1, ?2: days; ?3 owner, ?4 model, ?5 miner, ?6 owner of miners, whose conditions are put in place
-- of `true` where they are asked for, so that each finds its index; ?7 to ?10: what is told apart
-- (day, owner, model, miner); ?11 to ?14: the row before the page; ?15 rows.
SELECT * FROM (
    SELECT
        iif(?7, day, 0) AS day, iif(?8, owner, '') AS owner, iif(?9, model, '') AS model,
        iif(?10, miner_id, '') AS miner_id, sum(submitted), sum(completed), sum(failed),
        sum(cancelled), sum(prompt_tokens), sum(completion_tokens), sum(price_whole),
        -- In two parts: a sum of many rests would overflow.
        sum(price_rest / 1000000000), sum(price_rest % 1000000000)
    FROM usage
    WHERE day BETWEEN ?1 AND ?2 AND true
    GROUP BY 1, 2, 3, 4
) AS grouped
WHERE (grouped.day, grouped.owner, grouped.model, grouped.miner_id) > (?11, ?12, ?13, ?14)
ORDER BY grouped.day, grouped.owner, grouped.model, grouped.miner_id
LIMIT ?15;
