"""Every command in README and docs composes; nothing is trained here."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from p_rnn.commands import export
from p_rnn.commands.recommend import IDS, PATHS
from p_rnn.recommend.export import FORMATS
from p_rnn.runs.experiment import check_names
from p_rnn.settings.commands import EvaluateConfig, ExportConfig, RecommendConfig
from p_rnn.settings.hydra_glue import composed, load_config, typed
from p_rnn.settings.id_lists import as_typed, path_as_typed
from p_rnn.settings.resolve import resolve
from p_rnn.settings.tree import check_ranges
from tests.docs.pages import PAGES, ROOT, SCRIPTS, commands

# `dataset=shop` is the reader's own file; the plugin is made on the page that names it.
OWN_DATA = ["dataset=table", "dataset.path=shop/clicks.csv"]
NOT_COMPOSED = ("plugins=[my_", "--config-dir")

ALL = {
    (script, tuple(arguments)): str(page.relative_to(ROOT))
    for page in PAGES
    for script, arguments in commands(page)
}


def combinations(arguments: list[str]) -> list[list[str]]:
    """The overrides of jobs in which each value of a sweep occurs once; seeds compose alike."""
    values = []
    for override in OverridesParser.create().parse_overrides(arguments):
        if override.is_sweep_override():
            key = override.get_key_element()
            swept = [f"{key}={value}" for value in override.sweep_string_iterator()]
            values.append(swept[:1] if key == "seed" else swept)
        else:
            values.append([str(override.input_line)])
    most = max((len(each) for each in values), default=1)
    return [[each[min(k, len(each) - 1)] for each in values] for k in range(most)]


def check_train(arguments: list[str], data_only: bool = False) -> None:
    given = []
    for word in arguments:
        given += OWN_DATA if word == "dataset=shop" else [word]
    several = "-m" in given
    given = [word for word in given if word not in ("-m", "--cfg", "job")]
    jobs = combinations(given) if several else [given]
    for job in jobs:
        config = load_config(*job)
        if not data_only:
            check_names(resolve(config))


def check_evaluate(arguments: list[str]) -> None:
    OmegaConf.merge(OmegaConf.structured(EvaluateConfig), OmegaConf.from_dotlist(arguments))


def check_recommend(arguments: list[str]) -> None:
    words = [path_as_typed(as_typed(word, IDS), PATHS) for word in arguments]
    config = typed(composed("recommend", RecommendConfig, words), RecommendConfig)
    check_ranges(config)
    modes = [config.session is not None, config.sessions is not None, config.interactive]
    assert sum(modes) == 1


def check_export(arguments: list[str]) -> None:
    words = [path_as_typed(word, export.PATHS) for word in arguments]
    config = typed(composed("export", ExportConfig, words), ExportConfig)
    check_ranges(config)
    assert set(config.formats) <= set(FORMATS)
    assert config.max_items is None or "projector" in config.formats


def check_search(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    for name in ("--space", "--trials", "--name"):
        parser.add_argument(name, required=True)
    parser.add_argument("--sampler", choices=["random", "tpe"])
    given, overrides = parser.parse_known_args(arguments)
    assert (ROOT / "conf" / "space" / f"{given.space}.yaml").exists()
    check_train(overrides)


def check_study(arguments: list[str]) -> None:
    study = yaml.safe_load((ROOT / "conf" / "study" / f"{arguments[0]}.yaml").read_text())
    for option, value in itertools.pairwise(arguments):
        if option == "--rows":
            assert set(value.split(",")) <= set(study["rows"])
        if option == "--against":
            assert value.split()[0] in study["rows"]


def check_report(arguments: list[str]) -> None:
    assert arguments
    assert arguments[0].startswith(("multirun/", "outputs/"))


@pytest.mark.parametrize("command", ALL, ids=lambda c: f"{ALL[c]}: {c[0]} {' '.join(c[1])}"[:90])
def test_it_composes(command: tuple[str, tuple[str, ...]], tmp_path: Path) -> None:
    script, arguments = command[0], list(command[1])
    if script not in SCRIPTS:
        assert script == "benchmark"
        return
    if any(word.startswith(NOT_COMPOSED) for word in arguments):
        return
    checks = {
        "train": check_train,
        "prepare": lambda words: check_train(words, data_only=True),
        "evaluate": check_evaluate,
        "recommend": check_recommend,
        "export": check_export,
        "search": check_search,
        "study": check_study,
        "report": check_report,
    }
    checks[script](arguments)


def test_commands_are_found() -> None:
    assert len(ALL) > 50
    assert {script for script, _ in ALL} >= set(SCRIPTS)


def test_a_wrong_command_would_be_seen() -> None:
    with pytest.raises(Exception, match="learning_rat"):
        check_train(["learning_rat=0.1"])
    with pytest.raises(ValueError, match="no effect"):
        check_train(["-m", "model=id_only,concat", "loss=top1", "loss.logq=1"])


def test_sweeps_are_taken_apart() -> None:
    words = ["model=a,b,c", "seed=1,2", "sweep_name=x"]
    expected = [["model=a", "seed=1"], ["model=b", "seed=1"], ["model=c", "seed=1"]]
    assert [job[:2] for job in combinations(words)] == expected
