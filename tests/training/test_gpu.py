"""A step on a GPU is the step on a CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.worlds import MODELS, sessions, settings, trainer

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU: training on one is not tested"
)
OUTPUT = {"residual": "both", "interleaving": "features"}


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("strategy", ["simultaneous", "interleaving", "residual"])
@pytest.mark.parametrize("model", MODELS)
def test_losses_are_those_of_the_cpu(model: str, strategy: str, cell: str, tmp_path: Path) -> None:
    losses = []
    for device in ("cpu", "cuda"):
        config = settings(
            f"model={model}",
            f"strategy={strategy}",
            f"cell={cell}",
            f"model.output={OUTPUT.get(strategy, 'free')}",
            "num_negatives=0",
            "negatives=sampled",
            "batching=session_parallel",
            "dropout_prob=0",
            "loss=bpr_max",
            f"device={device}",
            "compile=never",
        )
        job, recorder = trainer(config, tmp_path, data=sessions(count=60))
        for index in range(len(job.passes)):
            job.run_pass(index)
        losses.append(recorder.losses)
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-3, atol=1e-5)
