"""Settings composed a section at a time are those composed whole."""

from __future__ import annotations

import pytest

from p_rnn.settings.hydra_glue import load_config
from p_rnn.settings.sections import PathsConfig
from tests.composed import composed
from tests.conftest import TINY
from tests.training.test_trajectory import FIXED, JOBS

PARALLEL = (
    "model=parallel",
    "model.input=embedding",
    "embedding_size=3",
    "subnets.tags.weight=0.5",
    "subnets.id.num_epochs=3",
    "dataset=table",
    "dataset.path=x.csv",
    "dataset.features.x.kind=number",
    "selected_features=[x]",
    "cell=lstm",
    "strategy=residual",
    "loss=top1",
    "optimizer=adamw",
    "optimizer.weight_decay=0.1",
    "schedule=cosine",
    "paths.raw=here",
    "num_epochs=2",
    "num_epochs=4",
)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        TINY,
        PARALLEL,
        (*FIXED, *JOBS["cross_entropy"]),
        ("model=gru4recf", "pooling_mode=mean", "loss_type=CE"),
        ("model=item_knn", "baseline.neighbours=3", "evaluation.baselines=[]"),
        ("experiment=prnn_paper", "hidden_size=7"),
        ("dataset=ml_100k", "dataset.test_days=3"),
    ],
)
def test_composed_by_section(overrides: tuple[str, ...]) -> None:
    assert composed(*overrides) == load_config(*overrides)


def test_nobody_changes_the_settings_of_another_test() -> None:
    changed = composed("model=parallel", "paths.raw=here")
    changed.model.name, changed.paths, changed.subnets["id"] = "other", PathsConfig(), None
    assert composed("model=parallel", "paths.raw=here") == load_config(
        "model=parallel", "paths.raw=here"
    )
