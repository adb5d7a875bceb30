"""Measures speed and memory, together with baselines, in one run."""
