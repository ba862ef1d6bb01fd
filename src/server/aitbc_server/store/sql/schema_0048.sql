-- What a job asks of its model, as domain/tasks.py names it; to generate when it is NULL.
ALTER TABLE jobs ADD COLUMN task TEXT;
