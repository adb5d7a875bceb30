"""Recommend items: python scripts/recommend.py checkpoint=.../best.pt session=[a,b,c] k=10."""

from p_rnn.__main__ import run_script

if __name__ == "__main__":
    run_script("recommend")
