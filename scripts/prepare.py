"""Prepare a data set without training: python scripts/prepare.py dataset=globo."""

from p_rnn.__main__ import run_script

if __name__ == "__main__":
    run_script("prepare")
