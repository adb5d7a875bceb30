"""What p_rnn is compared with, in plain PyTorch: a textbook step, and the floor.

Nothing of p_rnn is imported. The package runs as `python -m plain` with the folder above on the
path, so that process settings made by p_rnn (allocator, threads) do not affect the comparison.
"""
