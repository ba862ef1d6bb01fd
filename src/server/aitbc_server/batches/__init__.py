"""Runs batches: files of requests, each line of which becomes a job as a call would."""
