"""Reader of the Diginetica release (CIKM Cup 2016, track 2): item views and products."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from p_rnn.data.readers import options
from p_rnn.data.readers.base import Reader
from p_rnn.data.readers.columns import refuse_where, require_integers, seconds
from p_rnn.data.readers.files import Member, locate
from p_rnn.data.readers.properties import match_ids, read_properties, split_lists, unique_items
from p_rnn.data.readers.tabular import RawTable
from p_rnn.data.readers.text import TextFormat
from p_rnn.settings.errors import UserError

VIEWS = {"sessionId": np.int64, "itemId": np.int64, "timeframe": np.int64, "eventdate": str}


class DigineticaReader(Reader):
    """`train-item-views.csv`, `products.csv` and `product-categories.csv`, separated by ";".

    The time of an event is its date (UTC) plus the milliseconds since its session started. The file
    is not sorted; `prepare` sorts each session by time.
    """

    def __init__(self, raw: Path, source: str, *, path: options.Path = "diginetica") -> None:
        """`path`: the folder, relative to `raw`."""
        self._raw, self._source, self._path = raw, source, path

    def sources(self) -> list[Path]:
        return [self._file("train-item-views.csv")]

    def item_sources(self) -> list[Path]:
        return [self._file("products.csv"), self._file("product-categories.csv")]

    def events(self) -> Iterator[pd.DataFrame]:
        """Chunks of `session`, `item` (int64) and `time` (s).

        Raises:
            UserError: a missing value or one of another type; the message names file and line.
        """
        table = self._table("train-item-views.csv")
        rows = 0
        texts: dict[str, Any] = {"eventdate": str}
        for member, chunk in table.chunks(list(VIEWS), texts):
            rows += len(chunk)
            where = table.where(member)
            for name, kind in VIEWS.items():
                if kind is np.int64 and len(chunk):
                    require_integers(chunk[name], where)
            dates = pd.Series(seconds(chunk["eventdate"], "iso"), index=chunk.index)
            refuse_where(chunk["eventdate"], dates.isna().to_numpy(), where, "a date")
            yield pd.DataFrame(
                {
                    "session": chunk["sessionId"].astype(np.int64),
                    "item": chunk["itemId"].astype(np.int64),
                    "time": dates + chunk["timeframe"] / 1000,
                }
            ).reset_index(drop=True)
        if not rows:
            raise UserError(f"{self.sources()[0]} contains no views; get a new copy")

    def items(self) -> pd.DataFrame:
        """`name` (the hashed words of the name, list of str), `price_log2`, `category` (str)."""
        path, other = self.item_sources()
        columns = ["pricelog2", "product.name.tokens"]
        products = read_properties(self._table(path.name), "itemId", columns, columns[1:])
        products = unique_items(products, str(path))
        categories = read_properties(
            self._table(other.name), "itemId", ["categoryId"], ["categoryId"]
        )
        frame = products.merge(unique_items(categories, str(other)), on="item", how="outer")
        frame["name"] = split_lists(frame["product.name.tokens"], ",")
        frame = frame.rename(columns={"pricelog2": "price_log2", "categoryId": "category"})
        frame = frame[["item", "name", "price_log2", "category"]]
        return match_ids(frame, integer=True, label=str(path))

    def _table(self, name: str) -> RawTable:
        return RawTable([Member(self._file(name))], TextFormat(";", fixed=True))

    def _file(self, name: str) -> Path:
        return locate(self._raw, f"{self._path}/{name}", self._source)
