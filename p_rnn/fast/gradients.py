"""The gradients of a fast step, and the optimizer step that applies them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from p_rnn.fast.native import serves
from p_rnn.fast.native.functions import (
    RowsRead,
    Slots,
    adagrad_rows,
    adagrad_whole,
    times,
)
from p_rnn.fast.native.tape import off_tape
from p_rnn.training.exchange import Exchange
from p_rnn.training.gradients import entries_of
from p_rnn.training.optimizers import EPS, Adagrad
from p_rnn.training.step import Update


class Gradients:
    """Collects gradients of whole parameters, and of the rows of tables that were read."""

    def __init__(self) -> None:
        self.of_whole: dict[nn.Parameter, Tensor] = {}
        self.of_rows: dict[nn.Parameter, list[RowsRead]] = {}

    def whole(self, parameter: nn.Parameter | nn.Buffer, gradient: Tensor) -> None:
        if not parameter.requires_grad:
            return  # frozen, or a constant in place of a bias
        assert isinstance(parameter, nn.Parameter)
        before = self.of_whole.get(parameter)
        self.of_whole[parameter] = gradient if before is None else times(gradient, to=before)

    def rows(self, parameter: nn.Parameter, read: RowsRead) -> None:
        if parameter.requires_grad:
            self.of_rows.setdefault(parameter, []).append(read)

    def collect(self, network: nn.Module) -> None:
        """Add the gradients left by autograd, and merge row gradients of tables read whole."""
        for p in network.parameters():
            if p.grad is None:
                continue
            if p.grad.is_sparse:
                index, values = entries_of(p.grad)
                self.rows(p, RowsRead(index.contiguous(), values.contiguous()))
            else:
                self.whole(p, p.grad)
            p.grad = None
        for p in self.of_whole.keys() & self.of_rows.keys():
            off_tape()
            for read in self.of_rows.pop(p):
                items, values = _listed(read)
                self.of_whole[p].index_add_(0, items, values)

    def exchange(self, exchange: Exchange, loss: Tensor) -> Tensor:
        """Replace them by their sums over the ranks; returns the sum of the losses."""
        off_tape()
        rows = [
            (torch.cat(items), torch.cat(values))
            for items, values in (
                zip(*map(_listed, reads), strict=True) for reads in self.of_rows.values()
            )
        ]
        (total, *sums), summed = exchange([loss, *self.of_whole.values()], rows)
        self.of_whole = dict(zip(self.of_whole, sums, strict=True))
        self.of_rows = {p: [RowsRead(*each)] for p, each in zip(self.of_rows, summed, strict=True)}
        return total

    def hand_over(self) -> None:
        """Store them as `.grad` of the parameters, for a PyTorch optimizer."""
        for p, gradient in self.of_whole.items():
            p.grad = gradient.view_as(p)
        for p, reads in self.of_rows.items():
            items, values = zip(*map(_listed, reads), strict=True)
            index, all_values = torch.cat(items)[None], torch.cat(values)
            p.grad = torch.sparse_coo_tensor(index, all_values, p.shape, check_invariants=False)


def _listed(read: RowsRead) -> tuple[Tensor, Tensor]:
    """Rows [P] and their gradients [P, D]; bags are expanded into their rows."""
    if read.bags is None:
        return read.items, read.gradient
    offsets, tokens, weights = read.bags
    start = offsets[read.items]
    length = offsets[read.items + 1] - start
    owner = torch.repeat_interleave(length)
    first = length.cumsum(0) - length
    at = torch.arange(len(owner)) + (start - first)[owner]
    return tokens[at], read.gradient[owner] * weights[at, None]


class Mover:
    """Applies gradients to the weights: by compiled Adagrad, or by the configured optimizer."""

    def __init__(self, update: Update) -> None:
        self.update, self.optimizer = update, update.optimizer
        plain = all(serves(p) for p in update.network.parameters())
        self.native = plain and type(self.optimizer) is Adagrad and update.clip_norm is None
        self.slots: dict[nn.Parameter, Tensor] = {}

    def __call__(self, found: Gradients, measure: bool) -> Tensor | None:
        """Apply the gradients; return their norm before clipping if it had to be computed."""
        group = self.optimizer.param_groups[0]
        if not self.native or measure or group["weight_decay"]:
            off_tape()
            found.hand_over()
            norm = self.update.clip(measure)
            self.optimizer.step()
            self.optimizer.zero_grad()
            return norm
        rule = (float(group["lr"]), group["momentum"], EPS)
        for p, reads in found.of_rows.items():
            if p not in self.slots:
                self.slots[p] = torch.full((len(p),), -1, dtype=torch.int32)
            adagrad_rows(self._moved(p), reads, self.slots[p], rule)
        adagrad_whole([(self._moved(p), g) for p, g in found.of_whole.items()], rule)
        return None

    def _moved(self, p: nn.Parameter) -> Slots:
        """Weight, acc and velocity (None without momentum) of a parameter."""
        assert isinstance(self.optimizer, Adagrad)
        acc, *velocity = self.optimizer.slots_of(p)
        return p.detach(), acc, velocity[0] if velocity else None
