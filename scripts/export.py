"""Export a checkpoint: python scripts/export.py checkpoint=.../best.pt output=folder."""

from p_rnn.__main__ import run_script

if __name__ == "__main__":
    run_script("export")
