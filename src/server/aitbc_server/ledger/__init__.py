"""Receipts, the Merkle tree over them, and the signed blocks that seal it: no I/O but for keys."""
