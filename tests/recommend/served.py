"""A server of examples/serve.py as tests run it: on a free port, with a small network."""

# ruff: noqa: E402
from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn import Dataset, train
from p_rnn.recommend import Recommender, load
from tests.conftest import random_log

for package in ("fastapi", "uvicorn", "httpx"):
    pytest.importorskip(package, reason=f"THE SERVER IS NOT TESTED: {package} is not installed")

import httpx
import uvicorn

from load_test import Load, measure
from serve import Settings, create_app, main
from serving.metrics import Metrics
from serving.settings import read_settings
from serving.worker import Job, Worker
from tests.worlds import SMALL

__all__ = ["Job", "Load", "Metrics", "Worker", "main", "measure", "read_settings"]  # for tests


@contextlib.contextmanager
def served(recommender: Recommender, clock: Any = time.monotonic, **given: Any) -> Iterator[Any]:
    """A client of a server that runs in a thread; `client.app` is the application."""
    app = create_app(Settings(**given), recommender, clock)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.002)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            client.app = app
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network on 30 items A-0..A-29 with an item table."""
    place = tmp_path_factory.mktemp("serve")
    log = random_log(seed=1)
    log["item"] = "A-" + log["item"].astype(str)
    items = pd.DataFrame({"item": [f"A-{k}" for k in range(30)], "size": np.arange(30) / 4})
    items.loc[3, "size"] = np.nan
    with contextlib.chdir(place):
        data = Dataset.from_frame(log, items, min_item_support=1, test_days=2)
        train(data, "id_only", **SMALL)
    (found,) = place.glob("outputs/*/*/*/checkpoints/best.pt")
    return found


@pytest.fixture(scope="module")
def recommender(checkpoint: Path) -> Recommender:
    return load(checkpoint, "cpu")


@pytest.fixture
def client(recommender: Recommender) -> Iterator[Any]:
    with served(recommender) as opened:
        yield opened


def click(client: Any, name: str, item: Any, **options: Any) -> dict[str, Any]:
    response = client.post(f"/sessions/{name}/clicks", json={"item": item}, params=options)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def check(answer: dict[str, Any], recommender: Recommender, session: list[Any], **how: Any) -> None:
    """That the answer has the items of `Recommender.recommend`."""
    top = recommender.recommend(session, **{"k": 20, **how})
    assert [each["item"] for each in answer["items"]] == top.ids
    scores = [each["score"] for each in answer["items"]]
    np.testing.assert_allclose(scores, top.scores, rtol=1e-4, atol=1e-6)
    assert answer["skipped"] == top.skipped
    assert answer["clicks"] == len(session)
