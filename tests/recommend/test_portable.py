"""A checkpoint loads alone, elsewhere; without its items it needs the prepared data set."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from p_rnn.data.dataset import open_dataset
from p_rnn.recommend import Recommender, load
from p_rnn.settings.errors import UserError
from tests.recommend.shop import COUNTING, best, run_shop, text_id, write_shop
from tests.settings.test_upgrade import backwards

SESSIONS: list[list[Any]] = [[0, 7, 3], [text_id(5)], [], [4, 4, 5, 29, 12], [999]]
MODELS = [
    ["model=id_only"],
    ["model=parallel", "model.output=both"],
    ["model=feature_markov", *COUNTING],
    ["model=v_sknn", *COUNTING],
]


def sessions_of(text: bool) -> list[list[Any]]:
    if not text:
        return [[each for each in s if isinstance(each, int)] for s in SESSIONS]
    return [[each if isinstance(each, str) else text_id(each) for each in s] for s in SESSIONS]


def answers(recommender: Recommender, text: bool) -> list[Any]:
    tops = recommender.recommend(sessions_of(text), k=100)
    return [(top.ids, top.scores, top.skipped) for top in tops]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("text", [False, True], ids=["integers", "text"])
@pytest.mark.parametrize("final", [False, True], ids=["best", "final"])
@pytest.mark.parametrize("words", MODELS, ids=lambda words: words[0])
def test_on_another_machine(
    words: list[str], final: bool, text: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same scores, bit for bit, and nothing comes to life: the paths of the run were relative."""
    write_shop(tmp_path / "home" / "raw", cold=True, text=text)
    monkeypatch.chdir(tmp_path / "home")
    here = ["paths.raw=raw", "paths.prepared=prepared"]
    more = ["train_on_validation=true"] if final else []
    run_shop(Path(), "run", *words, *here, *more)
    checkpoint = Path("run/checkpoints") / ("final.pt" if final else "best.pt")
    before = answers(load(checkpoint, device="cpu"), text)
    assert len(before[0][0]) >= 30
    (tmp_path / "away").mkdir()
    shutil.move(checkpoint, tmp_path / "away" / "model.pt")
    shutil.rmtree(tmp_path / "home")
    monkeypatch.chdir(tmp_path / "away")
    assert answers(load("model.pt", device="cpu"), text) == before
    assert files(tmp_path) == ["away", "away/model.pt"]


@pytest.mark.parametrize("words", MODELS, ids=lambda words: words[0])
def test_what_is_stored(words: list[str], tmp_path: Path) -> None:
    """No pickled objects, and only in the checkpoints that are kept."""
    write_shop(tmp_path / "raw")
    run_shop(tmp_path, "run", *words, "strategy=simultaneous")
    content = torch.load(best(tmp_path, "run"), weights_only=True)
    assert {"ids", "support", "features", "properties"} == set(content["items"])
    assert torch.is_tensor(content["items"]["ids"])
    counts = words[-1] in COUNTING
    assert ("sessions" in content) == counts
    if not counts:
        last = torch.load(best(tmp_path, "run").with_name("last.pt"), weights_only=True)
        assert "items" not in last
    run_shop(tmp_path, "bare", *words, "portable=false")
    content = torch.load(best(tmp_path, "bare"), weights_only=True)
    assert not {"items", "sessions"} & set(content)


@pytest.mark.parametrize("words", MODELS, ids=lambda words: words[0])
def test_without_its_items(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prepared data set serves instead; raw files are not needed, and nothing is written."""
    write_shop(tmp_path / "raw", cold=True)
    run_shop(tmp_path, "run", *words)
    run_shop(tmp_path, "bare", *words, "portable=false")
    shutil.rmtree(tmp_path / "raw")
    before = files(tmp_path)
    portable = load(best(tmp_path, "run"), device="cpu")
    other = load(best(tmp_path, "bare"), device="cpu")
    assert answers(other, False) == answers(portable, False)
    other.save(tmp_path.parent / f"{tmp_path.name}.pt")  # which makes it portable
    assert answers(load(tmp_path.parent / f"{tmp_path.name}.pt", device="cpu"), False) == answers(
        portable, False
    )
    frames = [r.recommend([1, 2]).to_frame() for r in (portable, other)]
    assert frames[0].equals(frames[1])
    assert list(frames[0]) == ["item", "score", "tags", "size", "title"]
    assert files(tmp_path) == before
    (tmp_path / "prepared").rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"prepared.*missing.*portable") as error:
        load(best(tmp_path, "bare"), device="cpu")
    assert "\n" not in str(error.value)
    again = load(best(tmp_path, "bare"), device="cpu", prepared=tmp_path / "moved")
    assert answers(again, False) == answers(portable, False)


def test_format_2(tmp_path: Path) -> None:
    write_shop(tmp_path / "raw")
    run_shop(tmp_path, "run", "model=parallel")
    path = best(tmp_path, "run")
    content = backwards(torch.load(path, weights_only=True))
    del content["items"]
    del content["config"]["portable"]
    torch.save(content, tmp_path / "old.pt")
    old = load(tmp_path / "old.pt", device="cpu")
    assert answers(old, False) == answers(load(path, device="cpu"), False)


def test_last_pt(tmp_path: Path) -> None:
    write_shop(tmp_path / "raw")
    run_shop(tmp_path, "run", "num_epochs=1")
    path = best(tmp_path, "run")
    last, kept = (load(each, device="cpu") for each in (path.with_name("last.pt"), path))
    assert answers(last, False) == answers(kept, False)
    shutil.move(path.with_name("last.pt"), tmp_path)
    for folder in (tmp_path / "run", path.parent):  # of a run, and its checkpoints
        assert answers(load(folder, device="cpu"), False) == answers(kept, False)
    shutil.copy(path, path.with_name("final.pt"))
    path.unlink()  # a run that has trained on validation, too, is its final.pt
    assert answers(load(tmp_path / "run", device="cpu"), False) == answers(kept, False)
    with pytest.raises(UserError, match=r"no checkpoint at .*raw"):
        load(tmp_path / "raw")


def test_a_resumed_run_is_portable(tmp_path: Path) -> None:
    """best.pt of an interrupted run is copied, with the items as the new run wants them."""
    write_shop(tmp_path / "raw")
    one = ["num_epochs=1"]
    run_shop(tmp_path, "bare", *one, "portable=false")
    last = best(tmp_path, "bare").with_name("last.pt")
    for portable in ("true", "false"):
        run_shop(tmp_path, f"again-{portable}", f"resume={last}", *one, f"portable={portable}")
        content = torch.load(best(tmp_path, f"again-{portable}"), weights_only=True)
        assert ("items" in content) == (portable == "true")


def test_dense_features_stay_in_the_file(tmp_path: Path) -> None:
    """They are read from the checkpoint when they are needed, and not copied."""
    write_shop(tmp_path / "raw")
    np.save(tmp_path / "raw" / "image.npy", np.random.default_rng(0).random((30, 7), np.float32))
    np.save(tmp_path / "raw" / "ids.npy", np.arange(30))
    image = {"kind": "vector", "file": "image.npy", "ids": "ids.npy"}
    given = [f"dataset.features.image.{key}={value}" for key, value in image.items()]
    run_shop(tmp_path, "run", "model=parallel", *given)
    recommender = load(best(tmp_path, "run"), device="cpu")
    assert recommender.network is not None
    held = recommender.catalogue.features["image"].values  # type: ignore[union-attr]
    (prepared,) = (tmp_path / "prepared").glob("tiny-*")
    ids = open_dataset(prepared).item_ids
    assert np.array_equal(held, np.load(tmp_path / "raw" / "image.npy")[ids])
    views = [m for m in recommender.network.modules() if type(m).__name__ == "DenseRows"]
    assert any(view.values.data_ptr() == held.ctypes.data for view in views)
    mapped = Path("/proc/self/maps")
    if mapped.exists():
        spans = [
            [int(end, 16) for end in line.split()[0].split("-")]
            for line in mapped.read_text().splitlines()
            if line.endswith("best.pt")
        ]
        assert any(low <= held.ctypes.data < high for low, high in spans)
