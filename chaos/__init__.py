"""Breaks a running system in every way it can, and judges from outside whether a job was lost."""
