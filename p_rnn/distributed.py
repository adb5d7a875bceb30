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
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from p_rnn.runs.process import ranks_asked
from p_rnn.settings.config import Config, Settings
from p_rnn.settings.errors import UserError
from p_rnn.settings.resolve import counts, resolve

T = TypeVar("T")
# torchrun ends all ranks as soon as one dies; a rank that waits longer than this for another one,
# whose machine is gone or hangs, ends by itself.
TIMEOUT = timedelta(minutes=10)


_ours = False  # whether the process group is that of `join`; a program may have one of its own


def joined() -> bool:
    """Whether this process shares its work with others."""
    return _ours and dist.is_initialized()


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
    global _ours
    _, ranks = ranks_asked()
    if ranks == 1 or (dist.is_available() and dist.is_initialized()):
        return
    check(resolve(given), ranks)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with together():
        dist.init_process_group(backend, timeout=TIMEOUT)
    _ours = True


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
def together() -> Iterator[None]:
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
        with together():
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
    with together():
        dist.broadcast_object_list(values)
    return values[0]


def everywhere(here: bool) -> bool:
    """Whether something holds on all ranks."""
    return not add_up(torch.tensor(int(not here)))


def add_up(*tensors: Tensor) -> Tensor:
    """Sum tensors over the ranks in place; returns the first."""
    if joined():
        with together():
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
    with together():
        dist.all_reduce(sums, dist.ReduceOp.MAX)
        dist.all_reduce(least, dist.ReduceOp.MIN)
    if not torch.equal(sums, least):
        raise RuntimeError("the ranks have different weights: that must never happen")


def _checksum(p: Tensor) -> Tensor:
    """int64, of the bits of a tensor and their order."""
    words = p.detach().contiguous().view(-1).view(torch.uint8).view(-1, p.element_size())
    numbers = words.view(torch.int32).view(-1).long()
    return (numbers * (torch.arange(len(numbers), device=p.device) % 65_521 + 1)).sum()
