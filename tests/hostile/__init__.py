"""Attacks on a coordinator, each with a bound on what it may cost.

A test takes the part of the attacker, against a coordinator that is a process of its own: what the
attack costs is how much that process's memory grows, in MiB, and how long its health page takes.
Bounds are generous: what broke a bound of this kind once broke it tenfold.
"""
