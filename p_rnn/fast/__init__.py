"""The fast wing: may replace an update by one that is equal and faster (README.md beside)."""

from __future__ import annotations

from p_rnn.fast.door import Fast

__all__ = ["Fast"]
