"""Random search: python scripts/search.py --space network --trials 20 --name first key=value."""

from p_rnn.__main__ import run_script

if __name__ == "__main__":
    run_script("search")
