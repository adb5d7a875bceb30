"""Feature-rich session-based recommendation with parallel recurrent networks (p-RNN)."""

__version__ = "0.1.0"
