"""Two losses from vectors and tables to gradients, as compiled C++ (p_rnn/native/losses.cpp).

PyTorch's operations gather the candidates' rows, multiply, make four to ten passes over the scores
[B, C], and multiply twice for the gradients; here all that is done for a few dozen candidates at a
time, so that it stays in caches. The equations are those of p_rnn/training/losses.py, which runs
where each example has candidates of its own, where there is no C++ compiler, on other devices, and
in double precision.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from p_rnn import native
from p_rnn.config import LossConfig
from p_rnn.models.merges import Candidates

Fused = Callable[[Candidates, Tensor, Tensor | None], Tensor]  # of the target's column and log q

KEPT = {"cross_entropy": 2, "bpr_max": 6}  # rows of what the backward pass needs again
# As in native/step.h and native/tiles.h.
CHUNK, LINE = 48, 16


def build_fused(config: LossConfig) -> Fused | None:
    """The loss of a resolved config as a function of candidates that it `takes`, where it is one of
    these."""
    name = config.name
    if name not in KEPT:
        return None
    logq = config.logq if name == "cross_entropy" else None
    parameters = [] if name == "cross_entropy" else [config.elu_param, config.bpreg]
    assert all(x is not None for x in parameters)

    def loss(candidates: Candidates, target: Tensor, log_q: Tensor | None) -> Tensor:
        offset = candidates.bias
        if logq and log_q is not None:
            offset = -logq * log_q if offset is None else offset - logq * log_q
        leaves = [
            table.unread(candidates.items) if learning else None
            for table, learning in zip(candidates.tables, candidates.learning, strict=True)
        ]
        items = candidates.items if isinstance(candidates.items, Tensor) else None
        storages = [table.storage for table in candidates.tables]
        fixed = _Fixed(name, parameters, storages, items, target)
        losses: Tensor = _Fused.apply(fixed, offset, *candidates.queries, *leaves)  # type: ignore[no-untyped-call]
        return losses

    return loss


def takes(candidates: Candidates) -> bool:
    """Whether the compiled losses can be used: the same candidates for all, in single precision."""
    items, bias, tables = candidates.items, candidates.bias, candidates.tables
    if isinstance(items, Tensor):
        alike = items.dim() == 1 and items.dtype == torch.int64 and items.is_contiguous()
    else:
        alike = range(tables[0].num_rows)[items] == range(tables[0].num_rows)
    tensors = [*candidates.queries, *(table.storage for table in tables)]
    some = candidates.queries[0].numel() > 0
    return alike and some and native.serves(*tensors, *([] if bias is None else [bias]))


@dataclass(frozen=True)
class _Fixed:
    """What has no gradient."""

    name: str
    parameters: Sequence[float | None]
    tables: Sequence[Tensor]  # with their scratch rows
    items: Tensor | None  # [C]; None: all
    target: Tensor


class _Fused(torch.autograd.Function):
    """Losses [B]; the gradients of the rows [C, D_p] go to leaves that hold no numbers."""

    @staticmethod
    def forward(ctx: Any, fixed: _Fixed, offset: Tensor | None, *inputs: Tensor | None) -> Tensor:
        queries = inputs[: len(fixed.tables)]
        losses: Tensor
        losses, scores, kept = torch.ops.p_rnn.loss(
            fixed.name, queries, fixed.tables, fixed.items, offset, fixed.target, fixed.parameters
        )
        ctx.save_for_backward(scores, kept, *queries)
        ctx.fixed = fixed
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scores, kept, *queries = ctx.saved_tensors
        fixed, wanted = ctx.fixed, list(ctx.needs_input_grad[1:])
        found = iter(
            torch.ops.p_rnn.loss_gradient(
                fixed.name, queries, fixed.tables, fixed.items, fixed.target, scores, kept,
                gradient.contiguous(), fixed.parameters, wanted,
            )
        )  # fmt: skip
        return None, *(next(found) if wants else None for wants in wanted)


def _forward(
    name: str,
    queries: list[Tensor],
    tables: list[Tensor],
    items: Tensor | None,
    offset: Tensor | None,
    target: Tensor,
    parameters: list[float],
) -> tuple[Tensor, Tensor, Tensor]:
    losses, scores, kept = _empty(name, queries, tables, items)
    own = [native.pointer(kept), native.pointer(losses)]
    _call(f"{name}_forward", queries, tables, items, offset, target, scores, own, parameters)
    return losses, scores, kept


def _empty(
    name: str, queries: list[Tensor], tables: list[Tensor], items: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses, scores (a row for each candidate) and what is kept."""
    like, count = queries[0], _count(tables, items)
    examples = len(like)
    row = (-(-examples // LINE) | 1) * LINE
    scores = like.new_empty(-(-count // CHUNK) * CHUNK * row)
    return like.new_empty(examples), scores, like.new_empty(KEPT[name], row)


def _backward(
    name: str,
    queries: list[Tensor],
    tables: list[Tensor],
    items: Tensor | None,
    target: Tensor,
    scores: Tensor,
    kept: Tensor,
    gradient: Tensor,
    parameters: list[float],
    wanted: list[bool],
) -> list[Tensor]:
    made = _gradients(queries, tables, items, wanted)
    found = iter(made)
    offset, *others = [next(found) if wants else None for wants in wanted]
    of_queries, of_rows = others[: len(tables)], others[len(tables) :]
    own = [native.pointer(kept), native.pointer(gradient), native.pointers(of_queries),
           native.pointers(of_rows), native.pointer(offset)]  # fmt: skip
    _call(f"{name}_backward", queries, tables, items, None, target, scores, own, parameters)
    return made


def _gradients(
    queries: list[Tensor], tables: list[Tensor], items: Tensor | None, wanted: list[bool]
) -> list[Tensor]:
    """Of the offset, the queries and the rows, where they are wanted."""
    like, count = queries[0], _count(tables, items)
    shapes = [(count,), *(q.shape for q in queries), *((count, q.shape[1]) for q in queries)]
    return [like.new_empty(s) for s, wants in zip(shapes, wanted, strict=True) if wants]


def _gradient_shapes(name: str, queries: Any, tables: Any, items: Any, *rest: Any) -> list[Tensor]:
    return _gradients(queries, tables, items, rest[-1])


def _count(tables: list[Tensor], items: Tensor | None) -> int:
    return len(tables[0]) - 1 if items is None else len(items)


class _Step(ctypes.Structure):
    """`Step` of native/step.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_void_p) for name in
          ("queries", "tables", "widths", "items", "offset", "target", "scores")),
        *((name, ctypes.c_int64) for name in ("terms", "examples", "candidates")),
    ]  # fmt: skip


def _call(
    function: str,
    queries: list[Tensor],
    tables: list[Tensor],
    items: Tensor | None,
    offset: Tensor | None,
    target: Tensor,
    scores: Tensor,
    own: list[Any],
    parameters: list[float],
) -> None:
    loaded = native.library()
    assert loaded is not None
    arrays = [native.pointers(queries), native.pointers(tables),
              native.sizes([q.shape[1] for q in queries])]  # fmt: skip
    step = _Step(
        *map(ctypes.addressof, arrays), *map(native.pointer, (items, offset, target, scores)),
        len(queries), len(queries[0]), _count(tables, items),
    )  # fmt: skip
    getattr(loaded, function)(ctypes.addressof(step), *own, *parameters)


native.LIBRARY.define(
    "loss(str name, Tensor[] queries, Tensor[] tables, Tensor? items, Tensor? offset, "
    "Tensor target, float[] parameters) -> (Tensor, Tensor, Tensor)"
)
native.LIBRARY.define(
    "loss_gradient(str name, Tensor[] queries, Tensor[] tables, Tensor? items, Tensor target, "
    "Tensor scores, Tensor kept, Tensor gradient, float[] parameters, bool[] wanted) "
    "-> Tensor[]"
)
for operation, on_cpu, of_shapes in (
    ("loss", _forward, _empty),
    ("loss_gradient", _backward, _gradient_shapes),
):
    native.LIBRARY.impl(operation, on_cpu, "CPU")
    native.LIBRARY.impl(operation, of_shapes, "Meta")
