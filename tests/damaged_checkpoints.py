"""Changes of the content of a checkpoint, after which it is a whole file of PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from tests.damage import Harm


def checkpoint_edits(path: Path) -> dict[str, Harm]:
    """Changes of the content, after which the file is a whole one of PyTorch's."""
    content = torch.load(path, weights_only=True)
    harms: dict[str, Harm] = {}

    def edit(label: str, change: Callable[[dict[str, Any]], Any]) -> None:
        def harm(path: Path) -> None:
            content = torch.load(path, weights_only=True)
            change(content)
            path.unlink()
            torch.save(content, path)

        harms[label] = harm

    for key in content:
        edit(f"no {key}", lambda c, key=key: c.pop(key))
        for other, what in ((None, "null"), ("x", "text"), ([], "list")):
            edit(f"{key} is {what}", lambda c, key=key, other=other: c.update({key: other}))
    edit("num_items", lambda c: c.update(num_items=c["num_items"] + 1))
    edit("in_score", lambda c: c.update(in_score=7))
    for keys, tensor in _tensors(content):
        name = ".".join(map(str, keys))
        if tensor.numel():
            edit(f"value of {name}", lambda c, keys=keys: _at(c, keys).view(-1)[-1].add_(1000))
        edit(f"shape of {name}", lambda c, keys=keys: _put(c, keys, _at(c, keys)[None]))
        edit(f"no {name}", lambda c, keys=keys: _at(c, keys[:-1]).pop(keys[-1]))
    for one, two in _same_shape(content):
        edit(f"swapped {one} {two}", lambda c, one=one, two=two: _swap(c, one, two))
    return harms


def _tensors(node: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(node, torch.Tensor):
        yield keys, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _tensors(value, (*keys, key))


def _same_shape(content: Any) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    by_shape: dict[Any, tuple[Any, ...]] = {}
    for keys, tensor in _tensors(content):
        shape = (tensor.shape, tensor.dtype)
        if shape in by_shape and not torch.equal(_at(content, by_shape[shape]), tensor):
            yield by_shape[shape], keys
        by_shape[shape] = keys


def _at(node: Any, keys: tuple[Any, ...]) -> Any:
    for key in keys:
        node = node[key]
    return node


def _put(node: Any, keys: tuple[Any, ...], value: Any) -> None:
    _at(node, keys[:-1])[keys[-1]] = value


def _swap(node: Any, one: tuple[Any, ...], two: tuple[Any, ...]) -> None:
    first, second = _at(node, one), _at(node, two)
    _put(node, one, second)
    _put(node, two, first)
