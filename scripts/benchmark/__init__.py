"""Measures speed and memory beside what they can be compared with, in one run."""
