"""Checksums of what is in a checkpoint: of each tensor by its name, and of all else together."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

REST = ""  # the name of all that is no tensor
# A larger tensor of the items is compared only when it is read anyway, not when it is mapped.
LARGE_BYTES = 2**28


def checksums_of(content: Mapping[str, Any]) -> dict[str, int]:
    """CRC-32 of each tensor, and of the plain values with the names, shapes and types."""
    sums = {name: _crc(x) for name, x in _tensors(content)}
    return {**sums, REST: _crc_of_rest(content)}


def first_difference(content: Mapping[str, Any], sums: Mapping[str, int], mapped: bool) -> str:
    """The first part of a checkpoint that is not as it was written, in words; empty if none.

    Args:
        mapped: the tensors are still in the file: leave out the large ones of the items.
    """
    if _crc_of_rest(content) != sums[REST]:
        return "its settings, names or numbers are not as they were written"
    for name, x in _tensors(content):
        large = x.numel() * x.element_size() > LARGE_BYTES and name.startswith("items.")
        if not (mapped and large) and _crc(x) != sums[name]:
            return f"the tensor {name} is not as it was written"
    return ""


def _tensors(node: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(node, Tensor):
        yield name, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from _tensors(value, f"{name}.{number}")


def _crc(x: Tensor) -> int:
    """Of the bytes of a tensor, wherever it lies; 3 GB/s."""
    flat = x.detach().cpu().contiguous().reshape(-1)
    if not flat.numel():
        return 0
    return zlib.crc32(flat.view(torch.uint8).numpy())  # type: ignore[arg-type]


def _crc_of_rest(content: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(_plain(content)).encode())


def _plain(node: Any) -> Any:
    """In JSON, where keys that are numbers stay others than those that are text."""
    if isinstance(node, Tensor):
        return ["tensor", str(node.dtype), list(node.shape)]
    if isinstance(node, Mapping):
        return {"dict": [[_plain(key), _plain(value)] for key, value in node.items()]}
    if isinstance(node, list | tuple):
        return [_plain(value) for value in node]
    return node if node is None or isinstance(node, bool | int | float | str) else str(node)
