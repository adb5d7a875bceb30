"""Parts of examples/serve.py."""
