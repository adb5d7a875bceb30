"""What p_rnn is measured against, in plain PyTorch: a textbook step, and the floor.

Nothing of p_rnn is imported. The package runs under its short name, `python -m plain` with the
folder above on the path, so that what p_rnn sets for a process when it is imported (allocator,
threads) does not reach what it is compared with.
"""
