"""Train and evaluate a model: python scripts/train.py [group=choice] [key=value] [-m key=a,b]."""

from p_rnn.__main__ import run_script

if __name__ == "__main__":
    run_script("train")
