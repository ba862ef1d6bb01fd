-- Bytes that the jobs of each owner take: what they asked and answered, and 1,024 for each.

CREATE TABLE stored (
    owner TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO stored (owner, bytes)
SELECT
    jobs.owner,
    sum(
        1024 + coalesce(octet_length(specs.spec), 0) + coalesce(octet_length(results.result), 0)
        + coalesce(octet_length(results.details), 0)
    )
FROM jobs
LEFT JOIN specs ON specs.job_id = jobs.job_id
LEFT JOIN results ON results.job_id = jobs.job_id
GROUP BY jobs.owner;
