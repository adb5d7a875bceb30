"""The compiled functions, called with tensors: float32, contiguous, on the CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from p_rnn.fast import native
from p_rnn.fast.native import loaded, numbers, pointers
from p_rnn.fast.native.tape import call, make, recording
from p_rnn.models.dropout import BITS, Dropout


def product(a: Tensor, b: Tensor, turned: bool = False, to: Tensor | None = None) -> Tensor:
    """The product a b [M, N]; with `turned`, a b^T; written to `to` if given.

    All may be columns of wider matrices; without `turned`, `a` may also be a transposed view.
    """
    m, k = a.shape
    out = b.new_empty(m, b.shape[0] if turned else b.shape[1]) if to is None else to
    assert not turned or a.stride(1) == 1
    assert b.stride(1) == out.stride(1) == 1
    strides = (*a.stride(), b.stride(0), out.stride(0))
    call("product", make(native.Product, (a, b, out), m, out.shape[1], k, *strides, turned))
    return out


def gather(table: Tensor, items: Tensor) -> Tensor:
    """Rows [B, D] of a table."""
    out = table.new_empty(len(items), table.shape[1])
    call("gather", make(native.Gather, (table, items, out), *out.shape))
    return out


def pool(table: Tensor, items: Tensor, bags: Sequence[Tensor], to: Tensor | None = None) -> Tensor:
    """[B, D]: sum_t weights_t table[tokens_t] over the bag of each item [B]; added to `to` if any.

    Args:
        bags: offsets, tokens, weights.
    """
    out = table.new_empty(len(items), table.shape[1]) if to is None else to
    call("pool", make(native.Pool, (table, items, *bags, out), *out.shape, to is not None))
    return out


def times(
    x: Tensor, y: Tensor | None = None, scale: float = 1.0, to: Tensor | None = None
) -> Tensor:
    """scale * x * y, element by element; added to `to` if given."""
    out = torch.empty_like(x) if to is None else to
    call("times", make(native.Times, (x, y, out), x.numel(), to is not None, scale))
    return out


def mask(dropout: Dropout, like: Tensor) -> Tensor | None:
    """`Dropout.mask` of the shape of `like`, with the same random numbers."""
    if not dropout.active:
        return None
    lo, hi, rows = dropout.rows or (0, len(like), len(like))
    out = like.new_empty(rows, *like.shape[1:])
    words = torch.empty(-(-out.numel() // 4), dtype=torch.int64)
    words.random_(-(2**63), None, generator=dropout.generator)
    tape = recording()
    if tape is not None:
        tape.draws.append((words, dropout.generator))
    scale = 2**BITS / (2**BITS - dropout.dropped)
    call("mask", make(native.Mask, (words, out), out.numel(), dropout.dropped, scale))
    return out if dropout.rows is None else out[lo:hi]


def offset(
    bias: Tensor | None,
    log_support: Tensor | None,
    items: Tensor | None,
    targets: int,
    logq: float,
    alpha: float,
    count: int,
    like: Tensor,
) -> Tensor:
    """[C]: bias - logq * log q of the candidates (p_rnn.training.step.Update.log_q)."""
    out = like.new_empty(count)
    tensors = (bias, log_support, items, out)
    call("offset", make(native.Offset, tensors, count, targets, logq, alpha))
    return out


@dataclass(frozen=True)
class GateValues:
    """What the backward pass of a GRU step needs from the forward pass."""

    tensors: tuple[Tensor | None, ...]
    output: Tensor


def gates_forward(
    a: Tensor, u: Tensor, c: Tensor, d: Tensor, h: Tensor, mask: Tensor | None
) -> GateValues:
    """h' [B, H] times mask, from gate inputs a and u = h U [B, 3H] (p_rnn/models/cells/gru.py)."""
    r, z, n, acted, output = (torch.empty_like(h) for _ in range(5))
    tensors = (a, u, c, d, h, mask, r, z, n, acted, output)
    call("gates_forward", make(native.Gates, (*tensors, *[None] * 5), *h.shape))
    return GateValues(tensors, output)


def before_forward(
    a: Tensor, recurrent: Tensor, c: Tensor, h: Tensor, mask: Tensor | None
) -> GateValues:
    """`gates_forward` with reset=before, from gate inputs a [B, 3H] and U [H, 3H]."""
    both, new = columns(recurrent)
    u = torch.empty_like(a)
    r, z, n, acted, output = (torch.empty_like(h) for _ in range(5))
    tensors = (a, u, c, None, h, mask, r, z, n, acted, output)
    gates = make(native.Gates, (*tensors, *[None] * 5), *h.shape)
    product(h, both, to=columns(u)[0])
    call("before_gates", gates)
    product(acted, new, to=columns(u)[1])
    call("before_output", gates)
    return GateValues(tensors, output)


def before_backward(
    values: GateValues, recurrent: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a [B, 3H], of U and of c, given that [B, H] of h'."""
    batch, size = gradient.shape
    of_a, of_c = gradient.new_empty(batch, 3 * size), gradient.new_empty(3 * size)
    of_acted, of_u = torch.empty_like(gradient), torch.empty_like(recurrent)
    h, acted = values.tensors[4], values.tensors[9]
    assert h is not None
    assert acted is not None
    tensors = (*values.tensors, gradient, of_a, of_acted, of_c, None)
    gates = make(native.Gates, tensors, batch, size)
    call("before_output_backward", gates)
    product(columns(of_a)[1], columns(recurrent)[1], turned=True, to=of_acted)
    call("before_gates_backward", gates)
    product(h.t(), columns(of_a)[0], to=columns(of_u)[0])
    product(acted.t(), columns(of_a)[1], to=columns(of_u)[1])
    return of_a, of_u, of_c


def columns(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of [.., 3H]: the columns of both gates [.., 2H], and those of the new state [.., H]."""
    size = x.shape[1] // 3
    return x.narrow(1, 0, 2 * size), x.narrow(1, 2 * size, size)


def gates_backward(values: GateValues, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of a and of h U + c [B, 3H], and of d and c [3H], given that [B, H] of h'."""
    batch, size = gradient.shape
    of_a, of_u = gradient.new_empty(batch, 3 * size), gradient.new_empty(batch, 3 * size)
    of_d, of_c = gradient.new_empty(3 * size), gradient.new_empty(3 * size)
    tensors = (*values.tensors, gradient, of_a, of_u, of_d, of_c)
    call("gates_backward", make(native.Gates, tensors, batch, size))
    return of_a, of_u, of_d, of_c


def loss(
    name: str,
    queries: Sequence[Tensor],
    tables: Sequence[Tensor],
    items: Tensor | None,
    offset: Tensor | None,
    target: Tensor,
    parameters: Sequence[float],
    gradient: float,
    wanted: Sequence[bool],
) -> tuple[Tensor, list[Tensor], list[Tensor | None], Tensor | None]:
    """A loss on the scores sum_p queries_p . tables_p[items] + offset, and its gradients.

    Args:
        queries: [B, D_p]; `tables`: [N, D_p]; `items`: int64 [C] candidates; None: all.
        offset: [C]; `target`: int64 [B], the column of each target.
        gradient: the factor of every loss, 1 / B. `wanted`: the tables that need a gradient.

    Returns:
        The sum of the losses times `gradient` [1], and its gradients with respect to the queries,
        the candidates' rows [C, D_p] of the wanted tables, and the offset [C].
    """
    like, examples = queries[0], len(queries[0])
    count = len(tables[0]) if items is None else len(items)
    kept = like.new_empty(loaded().room_for_kept(examples))
    scores = like.new_empty(loaded().room_for_scores(examples, count))
    losses, mean = like.new_empty(examples), like.new_empty(1)
    targets = torch.empty(len(kept), dtype=torch.int32)  # larger than needed
    of_queries = [torch.empty_like(q) for q in queries]
    of_rows = [
        like.new_empty(count, q.shape[1]) if wants else None
        for q, wants in zip(queries, wanted, strict=True)
    ]
    of_offset = None if offset is None else like.new_empty(count)
    widths = numbers([q.shape[1] for q in queries])
    addresses: list[Any] = [
        pointers(queries),
        pointers(tables),
        pointers(of_queries),
        pointers(of_rows),
    ]
    tape = recording()
    if tape is not None:
        tape.held += [*queries, *tables, *of_queries, *of_rows]
    struct = native.Loss(
        *map(ctypes.addressof, (addresses[0], addresses[1], widths)),
        *(None if x is None else x.data_ptr() for x in (items, offset, target, scores, targets)),
        len(queries),
        examples,
        count,
        kept.data_ptr(),
        losses.data_ptr(),
        mean.data_ptr(),
        *map(ctypes.addressof, addresses[2:]),
        None if of_offset is None else of_offset.data_ptr(),
        gradient,
        *parameters,
    )
    if tape is not None:
        tape.structs.append(struct)
        tape.held += [
            items,
            offset,
            target,
            scores,
            targets,
            kept,
            losses,
            mean,
            of_offset,
            widths,
            addresses,
        ]
    call(name, struct)
    return mean, of_queries, of_rows, of_offset


def count_scores(block: Tensor, own: Tensor, at_least: Tensor, above: Tensor, bad: Tensor) -> None:
    """Count, per row of the scores `block` [B, C], those >= and > own [B]; in `bad`, not finite.

    The counts are added to `at_least` and `above`, int64 [B], and `bad`, int64 [1].
    """
    call("count_scores", make(native.Counting, (block, own, at_least, above, bad), *block.shape))
