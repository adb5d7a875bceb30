"""The gradients of a fast step, and the optimizer step that applies them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from p_rnn.fast.native import serves
from p_rnn.fast.native.functions import times
from p_rnn.fast.native.moves import RowsRead, Rule, Slots, move_rows, move_whole
from p_rnn.fast.native.tape import off_tape
from p_rnn.training.exchange import Exchange
from p_rnn.training.gradients import entries_of
from p_rnn.training.optimizers import EPS, Adagrad, Adam, AdamW, RowOptimizer
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
    """Applies gradients to the weights: by a compiled rule, or by the configured optimizer."""

    def __init__(self, update: Update) -> None:
        self.update, self.optimizer = update, update.optimizer
        known = type(self.optimizer) in (Adagrad, Adam, AdamW)
        plain = all(serves(p) for p in update.network.parameters())
        self.native = known and plain and update.clip_norm is None
        self.slots: dict[nn.Parameter, Tensor] = {}

    def __call__(self, found: Gradients, measure: bool) -> Tensor | None:
        """Apply the gradients; return their norm before clipping if it had to be computed."""
        decaying = self.optimizer.param_groups[0]["weight_decay"] != 0
        if not self.native or measure or (decaying and type(self.optimizer) is Adagrad):
            off_tape()
            found.hand_over()
            norm = self.update.clip(measure)
            self.optimizer.step()
            self.optimizer.zero_grad()
            return norm
        assert isinstance(self.optimizer, RowOptimizer)
        for p, reads in found.of_rows.items():
            if p not in self.slots:
                self.slots[p] = torch.full((len(p),), -1, dtype=torch.int32)
            move_rows(self._moved(p), reads, self.slots[p], rule_of(self.optimizer, p))
        whole: dict[Rule, list[tuple[Slots, Tensor]]] = {}
        for p, gradient in found.of_whole.items():
            whole.setdefault(rule_of(self.optimizer, p), []).append((self._moved(p), gradient))
        for rule, moved in whole.items():
            move_whole(moved, rule)
        return None

    def _moved(self, p: nn.Parameter) -> Slots:
        """A parameter and its slots."""
        assert isinstance(self.optimizer, RowOptimizer)
        first, *second = self.optimizer.slots_of(p)
        return p.detach(), first, second[0] if second else None


def rule_of(optimizer: RowOptimizer, p: nn.Parameter) -> Rule:
    """The rule of a step of Adagrad or Adam; that of Adam counts the step."""
    group = optimizer.param_groups[0]
    lr, decay = float(group["lr"]), group["weight_decay"]
    if not isinstance(optimizer, Adam):
        return Rule("adagrad", lr, group["momentum"], EPS)
    off_tape()  # the corrections depend on the step
    count, decoupled = float(optimizer.count(p)), isinstance(optimizer, AdamW)
    return Rule(
        "adam",
        lr / (1 - group["beta1"] ** count),
        momentum=0.0,
        eps=group["eps"],
        mean_rate=1 - group["beta1"],
        square_rate=1 - group["beta2"],
        correction=1 / (1 - group["beta2"] ** count),
        decay=0.0 if decoupled else decay,
        shrink=1 - lr * decay if decoupled else 1.0,
    )
