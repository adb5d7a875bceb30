"""Feature-rich session-based recommendation with parallel recurrent networks (p-RNN)."""
