"""Measures the coordinator beside bare servers. Run with `make bench`."""
