"""The whole table of a data set: python scripts/study.py retailrocket_week [key=value ...]."""

from p_rnn.__main__ import run_script

if __name__ == "__main__":
    run_script("study")
