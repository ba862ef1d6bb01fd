-- Salted hash of all that was asked, for the receipt. Of jobs of before it is made with the receipt.
ALTER TABLE specs ADD COLUMN request_hash BLOB;
