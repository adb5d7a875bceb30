"""Fuzzing of what reads files from elsewhere; `python -m tests.fuzz` runs it."""
