"""The commands of `p-rnn`, which p_rnn/__main__.py lists: a module with a `main` each.

They read `sys.argv`, of which the first word is the command as it was typed ("p-rnn train").
"""
