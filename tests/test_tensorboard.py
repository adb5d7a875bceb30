"""A sweep as a person sees it: TensorBoard's own reader, and its pages in a real browser."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from p_rnn.settings.config import Config
from p_rnn.settings.resolve import resolve
from p_rnn.settings.sections import TrackingConfig
from p_rnn.tracking import SHOWN, Tracker, varied_hyperparameters
from tests.conftest import TINY, random_log
from tests.settings.test_hydra_glue import run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
RATES = ("0.01", "0.1")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished 2 x 2 sweep; the folder to be given to --logdir."""
    place = tmp_path_factory.mktemp("sweep")
    (place / "raw").mkdir()
    random_log(seed=1).to_csv(place / "raw" / "tiny.csv", index=False)
    arguments = ("learning_rate=" + ",".join(RATES), "num_layers=1,2", "sweep_name=grid")
    result = run(place, "train", "-m", *TINY, *arguments, "num_epochs=2")
    assert result.returncode == 0, result.stderr
    return place / "multirun"


def test_every_job_is_one_run_with_the_same_tags(sweep: Path) -> None:
    files = sorted(sweep.rglob("events.out.tfevents.*"))
    assert len(files) == 4  # one file a job: HParams did not start a second run
    tags = []
    for file in files:
        events = EventAccumulator(str(file))
        events.Reload()
        tags.append(set(events.Tags()["scalars"]))
        assert [p.step for p in events.Scalars("valid/recall@20")] == [1, 2]
    for name in (
        "train/loss",
        "train/events_per_s",
        "train/gradient_norm",
        "epoch/learning_rate",
        "valid/recall@20",
        "valid/mrr@20",
        "final/test/recall@20",
    ):
        assert all(name in t for t in tags), name
    assert all(t == tags[0] for t in tags)


def test_no_chart_is_a_single_point(sweep: Path) -> None:
    for file in sorted(sweep.rglob("events.out.tfevents.*")):
        events = EventAccumulator(str(file))
        events.Reload()
        for tag in events.Tags()["scalars"]:
            points = events.Scalars(tag)
            assert len({p.step for p in points}) > 1, tag
            if tag.startswith("final/"):
                assert len({p.value for p in points}) == 1
                assert [p.step for p in points] == [0, 2]


def test_hparams_have_the_same_keys_and_types_in_every_job(sweep: Path) -> None:
    kinds = []
    for file in sorted(sweep.rglob("events.out.tfevents.*")):
        events = EventAccumulator(str(file))
        events.Reload()
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
        kinds.append({key: value.WhichOneof("kind") for key, value in start.hparams.items()})
    assert all(kind == kinds[0] for kind in kinds)
    assert {"learning_rate", "num_layers", "dataset", "loss", "seed"} <= set(kinds[0])


@pytest.fixture(scope="module")
def address(sweep: Path) -> Iterator[str]:
    """TensorBoard serving the sweep on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(sweep),
        "--port",
        str(port),
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/data/runs", timeout=5).read()
                break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait(20)


def ask(address: str, what: str, request: dict[str, Any]) -> dict[str, Any]:
    """An answer of TensorBoard's HParams plug-in."""
    url = f"{address}/data/plugin/hparams/{what}"
    data = json.dumps(request).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
        result: dict[str, Any] = json.loads(answer.read())
    return result


def page(url: str, folder: Path, picture: str) -> str:
    """The text of a rendered page; with P_RNN_SCREENSHOTS set, its picture is kept there."""
    assert BROWSER is not None
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={folder / 'profile'}",
        "--window-size=1600,1000",
        "--virtual-time-budget=20000",
    ]
    if "P_RNN_SCREENSHOTS" in os.environ:
        target = Path(os.environ["P_RNN_SCREENSHOTS"]) / picture
        subprocess.run([*command, f"--screenshot={target}", url], capture_output=True, timeout=120)
    result = subprocess.run(
        [*command, "--dump-dom", url], capture_output=True, text=True, timeout=120, check=True
    )
    return result.stdout


def look_for(texts: list[str], url: str, folder: Path, picture: str) -> None:
    """Load a page until all texts stand in it: its data come after it, in their own time."""
    missing = texts
    for attempt in range(8):
        content = page(url, folder / str(attempt), picture).lower()
        missing = [text for text in texts if text.lower() not in content]
        if not missing:
            return
    raise AssertionError(f"{url} never shows {missing}")


@pytest.mark.slow
@pytest.mark.skipif(
    BROWSER is None, reason="no Chromium here: TensorBoard's pages are not looked at"
)
def test_pages_in_a_browser(address: str, tmp_path: Path) -> None:
    # Only cards in view are drawn, so the page is asked for one curve.
    filtered = f"{address}/?tagFilter=valid%2Frecall%4020#timeseries"
    runs = [f"grid/learning_rate={rate},num_layers=2" for rate in RATES]
    look_for(["valid/recall@20", *runs], filtered, tmp_path, "curves.png")
    look_for(["HParams"], f"{address}/#hparams", tmp_path, "hparams.png")


def test_hparams_open_on_what_varies_and_on_recall_and_mrr(address: str) -> None:
    """The table is drawn out of reach of the page's text, so ask what the page asks the server.

    It shows the first five settings and the first five metrics of this answer.
    """
    experiment = ask(address, "experiment", {"experimentName": ""})
    assert [info["name"] for info in experiment["hparamInfos"]] == ["learning_rate", "num_layers"]
    assert all(info["type"] == "DATA_TYPE_FLOAT64" for info in experiment["hparamInfos"])
    names = [info["displayName"] for info in experiment["metricInfos"]]
    assert names == ["valid recall@20", "valid mrr@20", "test recall@20", "test mrr@20"]
    request = {
        "experimentName": "",
        "allowedStatuses": ["STATUS_SUCCESS"],
        "colParams": [{"hparam": name} for name in ("learning_rate", "num_layers")],
        "startIndex": 0,
        "sliceSize": 10,
    }
    rows = ask(address, "session_groups", request)["sessionGroups"]
    found = {(row["hparams"]["learning_rate"], row["hparams"]["num_layers"]) for row in rows}
    assert found == {(float(rate), layers) for rate in RATES for layers in (1, 2)}
    assert {row["name"].partition(" (")[0] for row in rows} == {
        f"{rate}, {layers}" for rate in RATES for layers in (1, 2)
    }
    assert all("(grid/learning_rate=" in row["name"] for row in rows)
    assert all(len(row["metricValues"]) == len(names) for row in rows)


def test_what_a_sweep_varies_is_shown_as_it_was_given(tiny: Callable[..., Config]) -> None:
    given = tiny("loss=top1", "dropout_prob=0.2")
    config = resolve(given)
    keys = ["loss", "dropout_prob", "subnets", "nothing", "dataset.test_days", "evaluation.cutoffs"]
    assert varied_hyperparameters(keys, config, given) == {
        "loss": "top1",
        "dropout_prob": 0.2,
        "dataset.test_days": 2,
        "evaluation.cutoffs": ",".join(map(str, config.evaluation.cutoffs)),
    }


def test_a_single_run_shows_what_says_most(tiny: Callable[..., Config], tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, TrackingConfig())
    tracker.hyperparameters(resolve(tiny()), {"test/recall@20": 0.5}, epochs=0)
    tracker.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(p.step, p.value) for p in events.Scalars("final/test/recall@20")] == [
        (0, 0.5),
        (1, 0.5),
    ]
    content = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    assert {info.name for info in experiment.hparam_infos if info.differs} == set(SHOWN)
    assert len(SHOWN) == 5
