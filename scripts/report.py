"""One table and pictures of many runs: python scripts/report.py RUNS... [--against id_only]."""

from p_rnn.__main__ import run_script

if __name__ == "__main__":
    run_script("report")
