-- What an answer has beside its text, as a serialised aitbc.v1.Job that holds nothing else.
ALTER TABLE results ADD COLUMN details BLOB;
