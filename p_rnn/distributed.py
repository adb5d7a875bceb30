"""Data-parallel training: K processes ("ranks"), started by torchrun, share every mini-batch.

Every rank makes the whole schedule and the same negatives, and computes the examples of its own
B / K slots against all candidates of the mini-batch. Losses and gradients are then summed over the
ranks, so that K ranks of B / K slots learn what one of B slots learns, up to the order of
summation; dropout included, because every rank draws the mask of all slots. All ranks hold the same
weights and slots of the optimizer, bit for bit. Rank 0 alone writes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from p_rnn.batches import Batch
from p_rnn.models.dropout import Dropout
from p_rnn.runs.process import ranks_asked
from p_rnn.settings.config import Config, Settings
from p_rnn.settings.errors import UserError
from p_rnn.settings.resolve import counts, resolve

T = TypeVar("T")
Rows = tuple[Tensor, Tensor]  # rows of a table, int64 [P], and their gradients [P, D]
# torchrun ends all ranks as soon as one dies; a rank that waits longer than this for another one,
# whose machine is gone or hangs, ends by itself.
TIMEOUT = timedelta(minutes=10)


def joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def count() -> int:
    """K, the number of ranks."""
    return dist.get_world_size() if joined() else 1


def number() -> int:
    """The number of this rank, from 0."""
    return dist.get_rank() if joined() else 0


def writes() -> bool:
    """Whether this rank writes files and log lines."""
    return number() == 0


def join(given: Config | Settings) -> None:
    """Join the other ranks: over gloo, and NCCL for tensors on GPUs; nothing without torchrun.

    Raises:
        UserError: settings that cannot be divided among the ranks.
    """
    _, ranks = ranks_asked()
    if ranks == 1 or joined():
        return
    check(resolve(given), ranks)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _together():
        dist.init_process_group(backend, timeout=TIMEOUT)


def check(config: Settings, ranks: int) -> None:
    """Refuse what cannot be divided among ranks.

    Raises:
        UserError: says which setting, and what to take instead.
    """
    if counts(config.model.name):
        raise UserError(f"model={config.model.name} only counts: start it without torchrun")
    if config.batch_size % ranks:
        raise UserError(
            f"batch_size={config.batch_size} cannot be divided among {ranks} ranks; make it a "
            f"multiple of {ranks}"
        )
    if config.batching != "session_parallel":
        raise UserError(
            f"batching={config.batching} cannot be divided among ranks; take "
            "batching=session_parallel, or start it without torchrun"
        )
    if config.compile == "graph":
        raise UserError("compile=graph cannot exchange gradients among ranks; take compile=auto")


def device_of(name: str) -> str:
    """The device of this rank for the setting `device`: each has a GPU of its own.

    Raises:
        UserError: a single GPU for all ranks.
    """
    if count() == 1 or name == "cpu" or not torch.cuda.is_available():
        return name
    if ":" in name:
        raise UserError(f"device={name} is one GPU for {count()} ranks; take device=cuda")
    own = f"cuda:{os.environ['LOCAL_RANK']}"
    torch.cuda.set_device(own)
    return own


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """Around what all ranks do together: one line if another one does not take part."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"rank {ranks_asked()[0]} lost the others ({reason}); the one that ended first says why"
        ) from error


def leave() -> None:
    """Wait for the other ranks and part from them, at the end of a run."""
    if joined():
        wait()
        dist.destroy_process_group()


def wait() -> None:
    """Wait for all ranks; also for what rank 0 has written before."""
    if joined():
        with _together():
            dist.barrier()


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """The first rank of each machine runs the block alone, then the others: they find its files."""
    local = int(os.environ["LOCAL_RANK"]) if joined() else 0
    if local:
        wait()
    yield
    if not local:
        wait()


def agree(value: T) -> T:
    """The value that rank 0 has."""
    if not joined():
        return value
    values = [value]
    with _together():
        dist.broadcast_object_list(values)
    return values[0]


def everywhere(here: bool) -> bool:
    """Whether something holds on all ranks."""
    return not add_up(torch.tensor(int(not here)))


def add_up(*tensors: Tensor) -> Tensor:
    """Sum tensors over the ranks in place; returns the first."""
    if joined():
        with _together():
            for each in tensors:
                dist.all_reduce(each)
    return tensors[0]


@torch.no_grad()
def check_equal(parameters: Iterable[nn.Parameter]) -> None:
    """Compare the weights of all ranks, bit for bit.

    Raises:
        RuntimeError: they differ.
    """
    if not joined():
        return
    sums = torch.stack([_checksum(p) for p in parameters])
    least = sums.clone()
    with _together():
        dist.all_reduce(sums, dist.ReduceOp.MAX)
        dist.all_reduce(least, dist.ReduceOp.MIN)
    if not torch.equal(sums, least):
        raise RuntimeError("the ranks have different weights: that must never happen")


def _checksum(p: Tensor) -> Tensor:
    """int64, of the bits of a tensor and their order."""
    words = p.detach().contiguous().view(-1).view(torch.uint8).view(-1, p.element_size())
    numbers = words.view(torch.int32).view(-1).long()
    return (numbers * (torch.arange(len(numbers), device=p.device) % 65_521 + 1)).sum()


class OwnSlots:
    """The mini-batches of which this rank has its own slots only, with all candidates.

    Slots that end leave the order of the others as it is, so the live slots of a rank stay
    neighbours. A rank whose slots have all ended goes on with mini-batches of no example.
    """

    def __init__(self, batches: Iterable[Batch], network: nn.Module, batch_size: int) -> None:
        self.batches, self.batch_size = batches, batch_size
        self.dropouts = [m for m in network.modules() if isinstance(m, Dropout)]

    def __iter__(self) -> Iterator[Batch]:
        slots = self.batch_size // count()
        lo, hi = slots * number(), slots * (number() + 1)
        for batch in self.batches:
            stay = batch.stay
            if stay is not None:
                own = (stay >= lo) & (stay < hi)
                before = int((stay < lo).sum())
                stay, lo, hi = stay[own] - lo, before, before + int(own.sum())
            for dropout in self.dropouts:
                dropout.rows = (lo, hi, len(batch.targets))
            items = batch.items
            yield replace(
                batch,
                inputs=batch.inputs[lo:hi],
                targets=batch.targets[lo:hi],
                items=items if items is None or items.dim() == 1 else items[lo:hi],
                column=batch.column[lo:hi],
                keep=None if batch.keep is None else batch.keep[lo:hi],
                stay=stay,
                of=len(batch.targets),
            )


class Exchange:
    """Sums losses and gradients over the ranks: one gathering of row numbers, and one sum.

    Of tables only the rows that any rank has read are exchanged.
    """

    room = 0  # row numbers in a message, in all tables together; all ranks have the same

    def __call__(
        self, whole: Sequence[Tensor], rows: Sequence[Rows]
    ) -> tuple[list[Tensor], list[Rows]]:
        """The sums over all ranks; rows come out sorted and distinct."""
        found, places = self._rows_of_all([index for index, _ in rows])
        sums = [
            values.new_zeros(len(each), values.shape[1]).index_add_(0, place, values)
            for each, place, (_, values) in zip(found, places, rows, strict=True)
        ]
        parts = [*whole, *sums]
        flat = add_up(torch.cat([each.reshape(-1) for each in parts]))
        split = flat.split([each.numel() for each in parts])
        shaped = [new.view_as(old) for new, old in zip(split, parts, strict=True)]
        return shaped[: len(whole)], list(zip(found, shaped[len(whole) :], strict=True))

    def gradients(self, network: nn.Module, loss: Tensor) -> Tensor:
        """Replace `.grad` of all parameters by their sums; returns the sum of the losses."""
        given = [p for p in network.parameters() if p.grad is not None]
        whole = [p for p in given if not p.grad.is_sparse]  # type: ignore[union-attr]
        tables = [p for p in given if p.grad.is_sparse]  # type: ignore[union-attr]
        rows = [(p.grad._indices()[0], p.grad._values()) for p in tables]  # type: ignore[union-attr]
        (total, *sums), summed = self([loss, *(p.grad for p in whole)], rows)  # type: ignore[list-item]
        for p, gradient in zip(whole, sums, strict=True):
            p.grad = gradient
        for p, (index, values) in zip(tables, summed, strict=True):
            p.grad = torch.sparse_coo_tensor(
                index[None], values, p.shape, check_invariants=False, is_coalesced=True
            )
        return total

    def _rows_of_all(self, own: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """For each table the rows of all ranks, sorted and distinct, and where the own ones are."""
        if not own:
            return [], []
        sizes = [len(index) for index in own]
        gathered = self._gathered(torch.cat([torch.tensor(sizes, device=own[0].device), *own]))
        theirs = [message[len(own) :].split(message[: len(own)].tolist()) for message in gathered]
        found, places = [], []
        for k in range(len(own)):
            each = [parts[k] for parts in theirs]
            distinct, place = torch.cat(each).unique(return_inverse=True)
            before = sum(len(index) for index in each[: number()])
            found.append(distinct)
            places.append(place[before : before + sizes[k]])
        return found, places

    def _gathered(self, message: Tensor) -> list[Tensor]:
        """The messages (int64) of all ranks, of any length."""
        while True:
            sent = message.new_zeros(self.room + 1)
            sent[0] = len(message)
            sent[1 : 1 + len(message)] = message[: self.room]
            received = message.new_empty(count(), self.room + 1)
            with _together():
                dist.all_gather(list(received), sent)
            lengths = received[:, 0].tolist()
            if max(lengths) <= self.room:
                return [each[1 : 1 + n] for each, n in zip(received, lengths, strict=True)]
            self.room = max(lengths) * 5 // 4
