"""Generators of other languages take the protos of a clone as they are, offline.

What needs Debian's or npm's packages is marked `polyglot`, and run by `make polyglot`.
"""
