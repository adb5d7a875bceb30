"""Many runs as one table with tests of significance, and as pictures (p-rnn report)."""
