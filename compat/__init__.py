"""Runs other people's clients, unmodified, against the coordinator and against `vllm serve`."""
