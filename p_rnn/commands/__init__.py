"""The commands of `p-rnn`, listed in p_rnn/__main__.py: one module with a `main` for each.

They read `sys.argv`, whose first word is the command as it was typed ("p-rnn train").
"""
