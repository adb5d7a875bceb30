"""Evaluate a checkpoint again: python scripts/evaluate.py checkpoint=.../best.pt split=test."""

from p_rnn.__main__ import run_script

if __name__ == "__main__":
    run_script("evaluate")
