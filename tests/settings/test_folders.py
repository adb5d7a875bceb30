"""A user's own conf folder goes before the package's."""

from __future__ import annotations

from pathlib import Path

import pytest

from p_rnn.runs.search import file_of, read_space
from p_rnn.settings.config import CONF
from p_rnn.settings.errors import UserError
from p_rnn.settings.folders import conf_choices, conf_file, conf_groups, own_conf
from p_rnn.settings.hydra_glue import load_config
from p_rnn.settings.messages import check_groups


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own conf folder in the working directory: choices of groups, one the package's too."""
    files = {
        "space/mine.yaml": "learning_rate: [0.3]",
        "space/network.yaml": "learning_rate: [0.7]",
        "experiment/mine.yaml": "# @package _global_\nhidden_size: 17",
        "experiment/prnn_paper.yaml": "# @package _global_\nhidden_size: 19",
        "season/spring.yaml": "",
        "season/notes.txt": "",
    }
    for name, content in files.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "conf"


def test_without_an_own_folder_all_is_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert own_conf() is None
    assert conf_file("space", "network") == CONF / "space" / "network.yaml"
    assert conf_file("space", "mine") is None
    monkeypatch.chdir(CONF.parent)
    assert own_conf() is None  # the package's own, in a checkout


def test_files_of_the_own_folder_add_and_replace(own: Path) -> None:
    assert conf_file("space", "mine") == own / "space" / "mine.yaml"
    assert file_of("space", "network") == own / "space" / "network.yaml"
    assert file_of("space", "prnn") == CONF / "space" / "prnn.yaml"
    assert read_space("network") == {"learning_rate": [0.7]}
    assert conf_choices("season") == ["spring"]
    assert {"mine", "network", "prnn"} < set(conf_choices("space"))
    assert {"season", "dataset"} < set(conf_groups())


def test_hydra_composes_from_both(own: Path) -> None:
    assert load_config("experiment=mine").hidden_size == 17
    assert load_config("experiment=prnn_paper").hidden_size == 19
    assert load_config("model=parallel").model.name == "parallel"


def test_messages_know_both(own: Path) -> None:
    with pytest.raises(UserError, match=r"unknown space 'min'; did you mean 'mine'\?.*prnn"):
        file_of("space", "min")
    with pytest.raises(UserError, match=r"unknown season '3'\. Known: spring"):
        check_groups(["season=3"])
    with pytest.raises(UserError, match="~season leaves it out"):
        check_groups(["season=null"])
