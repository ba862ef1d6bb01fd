-- name: insert_file
-- Unless the owner has ?7 files already.
INSERT INTO files (file_id, owner, filename, purpose, created_us, expires_us)
SELECT ?1, ?2, ?3, ?4, ?5, ?6
WHERE (SELECT count(*) FROM files WHERE owner = ?2 AND NOT is_gone) < ?7;

-- name: file_state
-- Of a file that takes content: its size, and the bytes of all its owner's files.
SELECT f.size, (SELECT sum(o.size) FROM files AS o WHERE o.owner = f.owner AND NOT o.is_gone)
FROM files AS f WHERE f.file_id = ?1 AND NOT f.is_finished AND NOT f.is_gone;

-- name: part_at
-- Whether a file has this very part.
SELECT 1 FROM file_parts WHERE file_id = ?1 AND start = ?2 AND content = ?3;

-- name: insert_part
INSERT INTO file_parts (file_id, start, content) VALUES (?1, ?2, ?3);

-- name: grow_file
UPDATE files SET size = size + ?2 WHERE file_id = ?1;

-- name: finish_file
UPDATE files SET is_finished = 1, expires_us = ?3
WHERE file_id = ?1 AND size = ?2 AND NOT is_finished AND NOT is_gone;

-- name: file_use
-- Whether a batch that has not ended needs a file; none when there is no such file.
SELECT EXISTS (
    SELECT 1 FROM batches AS b
    WHERE
        b.owner = f.owner AND b.ended_us IS NULL
        AND ?1 IN (b.input_file_id, b.output_file_id, b.error_file_id)
)
FROM files AS f WHERE f.file_id = ?1 AND NOT f.is_gone;

-- name: drop_file
UPDATE files SET is_gone = 1, expires_us = NULL WHERE file_id = ?1;

-- name: expire_files
-- Those whose time is over and that no batch needs, ?2 at most.
UPDATE files SET is_gone = 1, expires_us = NULL
WHERE
    file_id IN (
        SELECT f.file_id FROM files AS f
        WHERE
            f.expires_us <= ?1 AND NOT f.is_gone
            AND NOT EXISTS (
                SELECT 1 FROM batches AS b
                WHERE
                    b.owner = f.owner AND b.ended_us IS NULL
                    AND f.file_id IN (b.input_file_id, b.output_file_id, b.error_file_id)
            )
        LIMIT ?2
    );

-- name: delete_parts
-- Some of the content of what is deleted, ?1 parts at most.
DELETE FROM file_parts
WHERE
    rowid IN (
        SELECT p.rowid FROM files AS f INDEXED BY files_gone
        CROSS JOIN file_parts AS p ON p.file_id = f.file_id
        WHERE f.is_gone LIMIT ?1
    );

-- name: delete_files
-- What is deleted and has no content left.
DELETE FROM files
WHERE is_gone AND NOT EXISTS (SELECT 1 FROM file_parts AS p WHERE p.file_id = files.file_id);

-- name: file
SELECT file_id, owner, filename, purpose, created_us, expires_us, size, is_finished
FROM files WHERE file_id = ?1 AND NOT is_gone;

-- name: files_newest
SELECT file_id, owner, filename, purpose, created_us, expires_us, size, is_finished
FROM files
WHERE
    owner = ?1 AND (?2 IS NULL OR file_id < ?2) AND (?3 IS NULL OR purpose = ?3)
    AND is_finished AND NOT is_gone
ORDER BY file_id DESC LIMIT ?4;

-- name: files_oldest
SELECT file_id, owner, filename, purpose, created_us, expires_us, size, is_finished
FROM files
WHERE
    owner = ?1 AND (?2 IS NULL OR file_id > ?2) AND (?3 IS NULL OR purpose = ?3)
    AND is_finished AND NOT is_gone
ORDER BY file_id LIMIT ?4;

-- name: content
-- What a file has from a place on, up to the end of the part that it is in.
SELECT start, content FROM file_parts
WHERE file_id = ?1 AND start <= ?2 ORDER BY start DESC LIMIT 1;

-- name: drop_files_of
-- All files of an owner that no batch needs.
UPDATE files SET is_gone = 1, expires_us = NULL
WHERE
    owner = ?1 AND NOT is_gone
    AND NOT EXISTS (
        SELECT 1 FROM batches AS b
        WHERE
            b.owner = ?1 AND b.ended_us IS NULL
            AND files.file_id IN (b.input_file_id, b.output_file_id, b.error_file_id)
    );

-- name: count_files_of
SELECT count(*) FROM files WHERE owner = ?1 AND NOT is_gone;
