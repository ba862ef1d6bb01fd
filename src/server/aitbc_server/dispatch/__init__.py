"""Gives jobs to miners: a core without I/O (events in, effects out) and its asyncio shell."""
