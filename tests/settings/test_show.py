"""What people see of the settings: the listing, the differences, the page of the docs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from p_rnn.settings.config import Config
from p_rnn.settings.hydra_glue import load_config
from p_rnn.settings.resolve import resolve
from p_rnn.settings.roles import every_setting
from p_rnn.settings.show import WIDTH, differences, listing, page
from p_rnn.settings.tree import plain

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_of_the_docs_is_current() -> None:
    assert PAGE.read_text() == page(), "python -m p_rnn.settings.show > docs/settings.md"


def test_every_setting_has_a_word_and_a_role() -> None:
    for key, _, known in every_setting():
        assert known.get("role"), key
        assert known.get("help"), key


@pytest.mark.parametrize(
    "overrides",
    [(), ("model=gru4recf",), ("model=item_knn",), ("model=parallel", "subnets.text.weight=2")],
    ids=" ".join,
)
def test_the_listing_is_yaml_of_what_runs(overrides: tuple[str, ...]) -> None:
    settings = resolve(load_config(*overrides))
    lines = listing(settings)
    shown, runs = yaml.safe_load("\n".join(lines)), plain(settings)
    assert max(map(len, lines)) <= WIDTH
    hidden = {
        key
        for key, value in runs.items()
        if key not in shown and value not in (0, "", None, {}) and not isinstance(value, dict)
    }
    # Of models that count.
    assert hidden <= {"matmul_precision", "compile", "checkpoint_minutes"}
    for key, value in shown.items():
        if not isinstance(value, dict):
            assert value == runs[key], key
    assert shown["dataset"]["reader"] == "synthetic"
    # The listing, given as settings, runs the same.
    assert shown["model"]["name"] == settings.model.name


def test_differences_are_of_the_model_and_data_set_chosen() -> None:
    assert differences(resolve(Config())) == []
    config = load_config("model=gru4recf", "num_epochs=2", "loss=top1", "seed=3", "compile=never")
    found = differences(resolve(config))
    assert set(found) == {
        "num_epochs=2 (300)",
        "loss=top1 (cross_entropy)",
        "seed=3 (0)",
        "compile=never (auto)",
    }
