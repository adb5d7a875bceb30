"""Names of other programs point to ours, on the command line and from Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from p_rnn.commands.help import answer, in_order
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.settings.hints import SETTINGS
from p_rnn.settings.hydra_glue import load_config
from p_rnn.settings.messages import check_flags
from p_rnn.settings.resolve import resolve
from p_rnn.settings.roles import every_setting

HERE = {
    "lr=0.1": "unknown setting 'lr'; here it is learning_rate",
    "topk=[10]": "unknown setting 'topk'; here it is evaluation.cutoffs",
    "MAX_ITEM_LIST_LENGTH=50": "here it is window",
    "stopping_step=10": "here it is early_stopping.patience",
    "space=prnn": "p-rnn search --space prnn",
    "study=globo": "p-rnn study globo",
    "loss=BPR": "RecBole's, with its negatives, is loss_type=BPR",
    "baseline.neighbours=50": "baseline.neighbours has no effect on model=id_only",
    "model=GRU4Rec": "unknown model 'GRU4Rec'; here it is model=id_only",
    "model=gru4rec": "here it is model=id_only",
    "model=GRU4RecF": "here it is model=gru4recf",
    "model.name=GRU4Rec": "here it is model=id_only",
    "hydra/launcher=joblib": "needs the extra sweep",
    "model.hyperparameters.num_layers=2": "did you mean num_layers",
    "loss.smothing=1": "did you mean loss.smoothing?",
    "dataset.min_item_suport=3": "did you mean dataset.min_item_support?",
    "subnets.image.hiden_size=3": "did you mean subnets.image.hidden_size",
    "num_layers=x": "num_layers: Value 'x' of type 'str' is not a whole number",
}


@pytest.mark.parametrize("word", HERE)
def test_python_callers_get_the_line_that_helps(word: str) -> None:
    with pytest.raises(UserError) as error:
        resolve(load_config(word))
    assert HERE[word] in str(error.value)
    assert "\n" not in str(error.value)
    assert "hyperparameters." not in str(error.value).partition(";")[2]


def test_a_config_of_python_with_names_of_others() -> None:
    with pytest.raises(UserError, match="unknown setting 'lr'; here it is learning_rate"):
        Config(lr=0.1)
    with pytest.raises(UserError, match="unknown setting 'num_epoch'; here it is num_epochs"):
        Config(num_epoch=3)
    assert Config(num_epochs=3).num_epochs == 3


def test_hints_name_settings_that_exist() -> None:
    keys = {key for key, _, _ in every_setting()}
    groups = {key.removesuffix(".name") for key in keys}
    known = keys | groups | {"hydra.run.dir"}
    assert {ours for ours in SETTINGS.values() if ours not in known} == set()
    assert not set(SETTINGS) & keys


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--epochs", "3"],
            "cannot read '--epochs': settings are given as key=value, such as num_",
        ),
        (["--lr=3"], "such as learning_rate=..."),
    ],
)
def test_unknown_flags(words: list[str], says: str) -> None:
    with pytest.raises(UserError) as error:
        check_flags(words)
    assert says in str(error.value)
    check_flags(["-m", "--cfg", "job", "--multirun"])


def test_a_word_without_a_value_and_a_file_that_is_not_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"key=value, such as dropout_prob="):
        load_config("dropout_prob")
    with pytest.raises(UserError, match=r"such as checkpoint=best\.pt"):
        load_config("best.pt")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    (tmp_path / "conf" / "dataset" / "shop.yaml").write_text("name: shop\ntime_unit iso\npath: x\n")
    (tmp_path / "conf" / "loss").mkdir()
    (tmp_path / "conf" / "loss" / "hinge.yaml").write_text("name: hinge\n")
    with pytest.raises(UserError, match=r"shop.yaml, line 3: .* it is not YAML"):
        load_config("dataset=shop")
    with pytest.raises(UserError, match=r"hinge.yaml is there, but nothing registers it"):
        resolve(load_config("loss=hinge"))


def test_flags_may_stand_between_overrides() -> None:
    assert in_order(["seed=1", "-m", "a=1,2"]) == ["-m", "seed=1", "a=1,2"]
    assert in_order(["seed=1"]) == ["seed=1"]


def test_help_shows_the_values_that_would_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["p-rnn train"])
    text = answer(["--help", "model=gru4recf", "num_epochs=7"], "train", Config)
    assert text is not None
    assert "usage: p-rnn train" in text
    for line in ("learning_rate: 0.001", "num_epochs: 7", "  name: cross_entropy"):
        assert line in text, line
    assert "passes in which each subnet learns" in text
    assert answer(["num_epochs=7"], "train", Config) is None
    job = answer(["--cfg", "job", "num_epochs=7"], "train", Config)
    assert job is not None
    assert "usage" not in job
    assert "num_negatives: 2048" in job
