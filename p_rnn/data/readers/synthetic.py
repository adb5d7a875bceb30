"""Reader of the synthetic world, which has no raw files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd

from p_rnn.data.readers.base import Reader
from p_rnn.settings.declare import about
from p_rnn.synthetic.log import draw_items, draw_log
from p_rnn.synthetic.world import SyntheticConfig, World

WorldSettings = Annotated[SyntheticConfig, about("settings of the synthetic world")]


class SyntheticReader(Reader):
    """Draws the events and items of a `p_rnn.synthetic.world.World`."""

    def __init__(self, raw: Path, source: str, *, synthetic: WorldSettings) -> None:
        del raw, source  # nothing to read
        self._config = synthetic

    @cached_property
    def _world(self) -> World:
        return World(self._config)

    def sources(self) -> list[Path]:
        """None: the settings decide everything."""
        return []

    def item_sources(self) -> list[Path]:
        """None: the settings decide everything."""
        return []

    def events(self) -> Iterator[pd.DataFrame]:
        """Chunks of whole sessions, at most ~1 M events each, in order of their first event."""
        world = self._world
        for block in draw_log(world):
            item = world.item_ids[block.item]
            time = block.time.astype(np.float64)
            yield pd.DataFrame({"session": block.session, "item": item, "time": time})

    def items(self) -> pd.DataFrame:
        """`item`, `category` (int), `words` (list of str) and `image` (64 x float32)."""
        return draw_items(self._world)
