-- Limits of a key that are not the configured ones, as JSON: {"requests_per_second": 5}.
ALTER TABLE keys ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';
