"""From a checkpoint to recommendations for sessions of raw item ids."""

from __future__ import annotations

from p_rnn.recommend.live import LiveSession
from p_rnn.recommend.loading import load
from p_rnn.recommend.recommender import Recommender
from p_rnn.recommend.top import Top

__all__ = ["LiveSession", "Recommender", "Top", "load"]
