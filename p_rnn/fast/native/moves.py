"""The compiled optimizer steps: rows of tables that were read, and whole parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from p_rnn.fast import native
from p_rnn.fast.native.tape import call, make, recording


@dataclass(frozen=True)
class RowsRead:
    """A read of rows of a table, and the gradient of its result.

    Attributes:
        items: int64 [M]; `gradient`: [M, D].
        bags: (offsets, tokens, weights) if the result was the weighted sum of the rows `tokens` in
            the bag of each item; None: it was the rows `items` themselves.
    """

    items: Tensor
    gradient: Tensor
    bags: tuple[Tensor, Tensor, Tensor] | None = None


Slots = tuple[Tensor, Tensor, Tensor | None]  # weight, and the slots of its optimizer


class Rule(NamedTuple):
    """How weights are moved, and the numbers for it (rows.cpp).

    Adagrad: acc += g^2, velocity = momentum * velocity - lr * g / sqrt(acc + eps),
    weight += velocity; slots acc, velocity (None without momentum).

    Adam: weight *= shrink, g += decay * weight, mean += mean_rate * (g - mean),
    square += square_rate * (g^2 - square), weight -= lr * mean / (sqrt(correction * square) + eps);
    slots mean, square.
    """

    name: str  # adagrad or adam
    lr: float
    momentum: float
    eps: float
    mean_rate: float = 0.0
    square_rate: float = 0.0
    correction: float = 0.0
    decay: float = 0.0
    shrink: float = 1.0


def move_rows(moved: Slots, reads: Sequence[RowsRead], slots: Tensor, rule: Rule) -> None:
    """Apply a rule to the rows of a table that were read.

    Args:
        moved: [N, D] each. `reads`: gradients of the same row are summed first.
        slots: int32 [N], all -1; used as working memory, and all -1 again afterwards.
    """
    parts = (native.Reads * len(reads))()
    for k, read in enumerate(reads):
        tensors = (read.items, read.gradient, *(read.bags or (None,) * 3))
        parts[k] = make(native.Reads, tensors, len(read.items))
    tape = recording()
    if tape is not None:  # the elements of the array, since the structs were copied into it
        del tape.structs[-len(reads) :]
        tape.structs += list(parts)
    width = moved[0].shape[1]
    struct = make(native.MovedRows, (*moved, parts, slots), len(reads), width, *rule[1:])
    call(f"{rule.name}_rows", struct)


def move_whole(moved: Sequence[tuple[Slots, Tensor]], rule: Rule) -> None:
    """The same for whole parameters and their gradients."""
    made = (native.Parameter * len(moved))()
    for k, (slots, gradient) in enumerate(moved):
        made[k] = make(native.Parameter, (*slots, gradient), gradient.numel())
    call(f"{rule.name}_whole", make(native.MovedWhole, (made,), len(moved), *rule[1:]))
