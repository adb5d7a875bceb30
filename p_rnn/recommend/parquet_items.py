"""items.parquet: ids, vectors and properties of items, for tools that load tables."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.data.texts import Texts
from p_rnn.recommend.recommender import Recommender

ROWS = 2**16  # written at a time

log = logging.getLogger(__name__)


def write_parquet(path: Path, model: Recommender, vectors: NDArray[np.float32]) -> None:
    """Columns id, vector (a list of fixed size) and the properties of the item table.

    A property that is called id or vector gets an underscore behind its name. Without pyarrow, and
    where an id is no valid Unicode, the file is left out and the log says so.

    Args:
        vectors: [N, D], of the items 0..N-1 of the catalogue.
    """
    if importlib.util.find_spec("pyarrow") is None:
        log.info("%s is left out: it needs pyarrow", path.name)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    properties = model.catalogue.properties
    names = {name: name + "_" * (name in ("id", "vector")) for name in properties}
    integer = model.ids.dtype.kind == "i"
    if not integer and not all(map(_is_unicode, model.ids.tolist())):
        log.warning("%s is left out: an item id is no valid Unicode", path.name)
        return
    schema = pa.schema(
        [
            ("id", pa.int64() if integer else pa.string()),
            ("vector", pa.list_(pa.float32(), vectors.shape[1])),
            *(
                (names[name], pa.string() if isinstance(own, Texts) else pa.float64())
                for name, own in properties.items()
            ),
        ]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for lo in range(0, len(vectors), ROWS):
            own = vectors[lo : lo + ROWS]
            at = np.arange(lo, lo + len(own))
            flat = pa.array(own.reshape(-1))
            columns: list[Any] = [
                model.catalogue.ids_of(at),
                pa.FixedSizeListArray.from_arrays(flat, own.shape[1]),
            ]
            for values in model.catalogue.labels(at).values():
                columns.append([_valid(value) for value in values])
            arrays = [
                pa.array(column, type=field.type) if isinstance(column, list) else column
                for column, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _is_unicode(text: str) -> bool:
    """Whether it has no half of a surrogate pair, which a broken file may have given."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _valid(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
