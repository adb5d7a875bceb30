"""A step asks for no value: it runs on PyTorch's meta device, where there are none.

What is left on the CPU, or makes the CPU wait for a GPU, fails there.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from p_rnn.batches import Batch
from p_rnn.models.features import DenseRows
from p_rnn.training import gradients
from p_rnn.training.losses import LOSSES
from p_rnn.training.step import train_step
from p_rnn.training.strategies import STRATEGIES
from p_rnn.training.trainer import Trainer
from tests.worlds import MODELS, sessions, settings, trainer

WAITS = ("_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "equal", "is_nonzero")
CELL, OPTIMIZER = {"alternating": "lstm", "residual": "attention"}, {"interleaving": "adam"}
OUTPUT = {"residual": "both", "interleaving": "features"}


def job(folder: Path, *overrides: str) -> Trainer:
    made, _ = trainer(
        settings("compile=never", "num_epochs=1", *overrides), folder, data=sessions(count=40)
    )
    return made


def moved(batch: Batch, device: str) -> Batch:
    values = {name: x.to(device) if isinstance(x, Tensor) else x for name, x in vars(batch).items()}
    return Batch(**values)


class OnMeta(TorchDispatchMode):
    """Draws nothing, as the meta device has no generator of random numbers."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket is torch.ops.aten.random_:
            return args[0]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("batching", ["session_parallel", "sequences"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_a_step_of_every_cell_runs_without_values(
    model: str, loss: str, batching: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every strategy with every second loss: how a subnet learns does not depend on the loss.
    for strategy in list(STRATEGIES)[list(LOSSES).index(loss) % 2 :: 2]:
        made = job(
            tmp_path,
            f"model={model}",
            f"loss={loss}",
            f"strategy={strategy}",
            f"batching={batching}",
            "negatives=sampled",
            "num_negatives=4",
            "dropout_hidden=0.1",
            f"cell={CELL.get(strategy, 'gru')}",
            f"optimizer={OPTIMIZER.get(strategy, 'adagrad')}",
            f"model.output={OUTPUT.get(strategy, 'free')}",
        )
        network = made.network
        for module in network.modules():
            if isinstance(module, DenseRows):
                module.values = module.values.to("meta")
        network.to("meta")
        if made.update.log_support is not None:
            made.update.log_support = made.update.log_support.to("meta")
        monkeypatch.setattr(gradients, "segment_sum", segment_of_one)
        batch = moved(next(iter(made.batches)), "meta")
        state = network.begin(3)
        plan = made.passes[-1]
        network.use(plan.in_score)
        state = network.begin(3)
        with OnMeta():
            done, after = train_step(made.update, batch, state, plan.updates, measure=True)
        assert all(each.loss.device.type == "meta" for each in done)
        assert all(h.device.type == "meta" for h in after)


def segment_of_one(gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """On the meta device a sparse gradient has lost its number of rows (test_gradients.py)."""
    rows = torch.zeros(5, dtype=torch.int64, device="meta")
    sums = torch.zeros(5, *gradient.shape[1:], device="meta")
    return rows, sums, rows


class Counting(TorchDispatchMode):
    """Counts the operations that wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.all = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.all += 1
        if name in WAITS:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("batching", ["session_parallel", "sequences"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_waits_for_the_device_between_two_logs(
    strategy: str, model: str, batching: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job(
        tmp_path,
        f"model={model}",
        f"strategy={strategy}",
        f"batching={batching}",
        "negatives=sampled",
        "num_negatives=4",
        "loss=bpr_max",
        "dropout_hidden=0.1",
        "tracking.log_every=100000",
        "optimizer=adagrad",
        f"model.output={OUTPUT.get(strategy, 'free')}",
    )

    def summed_rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
        """As on a GPU."""
        rows, sums, segment = gradients.segment_sum(gradient)
        return rows, sums.index_select(0, segment)

    monkeypatch.setattr("p_rnn.training.optimizers.summed_rows", summed_rows)
    monkeypatch.setattr(made, "_read_losses", lambda *arguments: None)
    monkeypatch.setattr(made, "_has_diverged", lambda: False)  # seldom asked on a GPU
    with Counting() as counting:
        made.run_pass(0)
    assert counting.all > 500
    assert not counting.found


def test_the_counter_counts() -> None:
    with Counting() as counting:
        assert torch.ones(3).sum().item() == 3
        torch.unique(torch.zeros(3, dtype=torch.int64))
    assert set(counting.found) == {"_local_scalar_dense", "_unique2"}
