"""README.txt of an exported folder: what its files are and how they go together."""

from __future__ import annotations

from typing import Any

HEAD = """Exported by p_rnn {p_rnn}: model {model}, data set {dataset}.

{num_items} items can be recommended, {num_readable} can be read as input. Item k is row k of
item_ids.csv, which has one line of header. about.json has the numbers of this page.

The score of an item is the inner product of its vector with the query of the session, both of
{width} numbers:
{columns}
An index for the largest inner product (not the cosine, not the distance) over the vectors gives
the ranking of the model.
"""
VECTORS = """
items.npy       float32 [{num_items}, {width}], the vectors of the items
items.parquet   the same with ids and properties of the items (written where pyarrow is installed)

The query of a session, in Python:

    model = p_rnn.load("best.pt", device="cpu")
    session = model.start()
    session.click(item_id)
    query = model.ranker.queries(session.state)  # [1, {width}]
"""
ONNX = """
step.onnx       items int64 [B], state_0, state_1, ... -> new_state_0, new_state_1, ...
query.onnx      state_0, state_1, ... -> query float32 [B, {width}]
score.onnx      state_0, state_1, ... -> scores float32 [B, {num_items}]
states.json     the states: float32 [B, width]; all are zeros before the first item
input_ids.csv   the items that step.onnx reads: item k is row k

Large files have a second one that ends in .data and must lie beside them. An item that the model
cannot read, such as -1, leaves the state of its session as it is.
"""
PROJECTOR = """
projector/      for TensorBoard: tensorboard --logdir projector; the vectors have no bias there
"""


def readme(about: dict[str, Any]) -> str:
    """The page for what about.json says."""
    columns = "".join(
        f"    column{f's {lo} to' * (hi - lo > 1)} {hi - 1}: {_part(name)}\n"
        for name, (lo, hi) in about["columns"].items()
    )
    parts = {"vectors": VECTORS, "onnx": ONNX, "projector": PROJECTOR}
    text = HEAD + "".join(part for name, part in parts.items() if name in about["formats"])
    return text.format(**{**about, "columns": columns})


def _part(name: str) -> str:
    if name == "bias":
        return "the bias of the item; the query has 1 there"
    return "of the hidden states" if name == "hidden" else f"of the subnet '{name}'"
