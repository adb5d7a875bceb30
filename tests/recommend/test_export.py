"""Exported folders: vectors that rank as the model does, exact ids, the projector's files."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
from werkzeug.test import Client

from p_rnn.baselines import make_baseline
from p_rnn.baselines.ranker import TrainingData
from p_rnn.evaluation.evaluator import EvaluationProtocol, evaluate
from p_rnn.models.architectures import MODELS
from p_rnn.models.network import PRNN
from p_rnn.recommend import Recommender
from p_rnn.recommend import export as module
from p_rnn.recommend.export import ABOUT, export
from p_rnn.settings.errors import UserError
from p_rnn.settings.resolve import resolve
from p_rnn.settings.sections import EvaluationConfig
from tests.composed import composed
from tests.recommend.exported import CPU, IDS, SUPPORT, TITLES, TRAINED, catalogue, recommender
from tests.worlds import N, sessions

VECTORS_FILES = {"README.txt", "about.json", "item_ids.csv", "items.npy", "items.parquet"}


class FromFiles:
    """Scores sessions with items.npy and the queries of a network."""

    def __init__(self, network: PRNN, folder: Path) -> None:
        self.ranker = network.ranker()
        self.items = torch.from_numpy(np.load(folder / "items.npy"))
        self.num_items = len(self.items)
        self.begin, self.step = self.ranker.begin, self.ranker.step

    def scores(self, state: Any, items: Any) -> torch.Tensor:
        return self.ranker.queries(state) @ self.items[items].T


@pytest.mark.parametrize("output", ["free", "features", "both"])
@pytest.mark.parametrize("model", MODELS)
def test_inner_products_rank_as_the_model_does(model: str, output: str, tmp_path: Path) -> None:
    made = recommender(f"model={model}", f"model.output={output}")
    network = made.network
    assert network is not None
    folder = export(made, tmp_path / "exported")
    own = FromFiles(network, folder)
    assert own.num_items == (TRAINED if output == "free" else N)
    ranker, width = network.ranker(), own.items.shape[1]
    assert own.items.dtype == torch.float32
    items = torch.tensor([3, 0, 7, 3])
    state = ranker.step(items, ranker.begin(4), torch.ones(4, dtype=torch.bool))
    every = slice(0, own.num_items)
    scores = ranker.scores(state, every)
    assert float(scores.std()) > 0.1
    torch.testing.assert_close(own.scores(state, every), scores, rtol=1e-5, atol=1e-5)
    about = json.loads((folder / ABOUT).read_text())
    bias, last = about["bias_column"], max(hi for _, hi in about["columns"].values())
    assert (about["width"], last) == (width, width)
    if bias is None:
        assert network.merge.bias is None
    else:
        torch.testing.assert_close(own.items[:TRAINED, bias], network.merge.bias.weight[:, 0])
        assert not own.items[TRAINED:, bias].any()
        assert bool((ranker.queries(state)[:, bias] == 1).all())
    protocol = EvaluationProtocol(
        TRAINED, SUPPORT, EvaluationConfig(cold_items="drop" if output == "free" else "keep")
    )
    expected, found = (evaluate(each, sessions(), protocol) for each in (ranker, own))
    assert len(expected.rank) > 40
    np.testing.assert_array_equal(found.rank, expected.rank)


def test_columns_are_those_of_the_subnets(tmp_path: Path) -> None:
    made = recommender("model=parallel", "subnets.image.hidden_size=6")
    folder = export(made, tmp_path / "exported")
    columns = json.loads((folder / ABOUT).read_text())["columns"]
    assert columns == {"id": [0, 4], "image": [4, 10], "tags": [10, 14], "bias": [14, 15]}
    items = np.load(folder / "items.npy")
    assert made.network is not None
    for name, table in zip(made.network.names, made.network.merge.tables, strict=True):
        lo, hi = columns[name]
        np.testing.assert_array_equal(items[:, lo:hi], table.weight.detach().numpy())
    text = (folder / "README.txt").read_text()
    assert "columns 4 to 9: of the subnet 'image'" in text


def read_column(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["item"]
    return [row[0] for row in rows]


def test_ids_are_exact(tmp_path: Path) -> None:
    folder = export(recommender("model=concat", "model.output=both"), tmp_path / "exported")
    assert read_column(folder / "item_ids.csv") == IDS
    free = export(recommender("model=concat"), tmp_path / "free")
    assert read_column(free / "item_ids.csv") == IDS[:TRAINED]
    numbers = replace(catalogue(), ids=np.arange(N) * 7)
    made = recommender("model=concat", items=numbers)
    folder = export(made, tmp_path / "numbers")
    assert (folder / "item_ids.csv").read_text() == "item\n" + "".join(
        f"{7 * k}\n" for k in range(TRAINED)
    )


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="items.parquet needs pyarrow")
    monkeypatch.setattr("p_rnn.recommend.parquet_items.ROWS", 5)
    folder = export(recommender("model=concat", "model.output=both"), tmp_path / "exported")
    table = parquet.read_table(folder / "items.parquet")
    assert table.column_names == ["id", "vector", "title", "size", "id_"]
    assert table["id"].to_pylist() == IDS
    assert table["title"].to_pylist() == [title or None for title in TITLES]
    assert table["size"].to_pylist() == [None, *(k / 2 for k in range(1, N))]
    items = np.load(folder / "items.npy")
    assert table.schema.field("vector").type.list_size == items.shape[1]
    np.testing.assert_array_equal(np.array(table["vector"].to_pylist(), np.float32), items)


def test_parquet_is_left_out_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    folder = export(recommender("model=id_only"), tmp_path / "exported")
    assert "items.parquet is left out: it needs pyarrow" in caplog.text
    assert {path.name for path in folder.iterdir()} == VECTORS_FILES - {"items.parquet"}


def test_the_projector_reads_its_files(tmp_path: Path) -> None:
    made = recommender("model=parallel", "model.output=both")
    folder = export(made, tmp_path / "exported", ["projector"], max_items=5)
    place = folder / "projector"
    config = text_format.Parse((place / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    tensors = np.loadtxt(place / embedding.tensor_path, delimiter="\t")
    text = (place / embedding.metadata_path).read_text(encoding="utf-8")
    header, *rows = [line.split("\t") for line in text.removesuffix("\n").split("\n")]
    assert header == ["item", "training events", "title", "size", "id"]
    popular = np.argsort(-SUPPORT, kind="stable")[:5]
    flat = [(IDS[k].replace("\n", " ").replace("\t", " "), str(SUPPORT[k])) for k in popular]
    assert [tuple(row[:2]) for row in rows] == flat
    assert all(len(row) == len(header) for row in rows)
    assert made.network is not None
    vectors = made.network.ranker().vectors().numpy()[popular, :-1]
    np.testing.assert_allclose(tensors, vectors, rtol=1e-5)


def test_tensorboard_finds_the_projector(tmp_path: Path) -> None:
    folder = export(recommender("model=concat"), tmp_path / "exported", ["projector"])
    plugin = ProjectorPlugin(TBContext(logdir=str(folder / "projector")))
    served = Client(plugin.get_plugin_apps()["/info"]).get("/", query_string={"run": "."})
    (embedding,) = served.get_json()["embeddings"]
    assert (embedding["tensorName"], embedding["tensorShape"]) == ("items", [TRAINED, 4])


# --- the folder, and what is refused -------------------------------------------------------------


def test_an_earlier_export_is_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    made, folder = recommender("model=id_only"), tmp_path / "exported"
    export(made, folder, ["vectors", "projector"])
    export(made, folder)
    assert {path.name for path in folder.iterdir()} <= VECTORS_FILES
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"such as notes\.txt; give another folder, or overwrite"):
        export(made, folder)
    export(made, folder, ["projector"], overwrite=True)
    files = {"README.txt", "about.json", "item_ids.csv", "projector", "notes.txt"}
    assert {path.name for path in folder.iterdir()} == files
    assert (folder / "notes.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    export(made, tmp_path / "empty")
    assert {path.name for path in tmp_path.iterdir()} == {"exported", "empty"}


def test_what_is_not_there_to_export_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recommender("model=id_only")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for words, message in (
        ({"formats": ["onx"]}, "unknown format 'onx'; did you mean 'onnx'"),
        ({"formats": []}, "exports nothing"),
        ({"max_items": 5}, "max_items has no effect without the projector"),
        ({"folder": "file"}, "output=file is a file"),
        ({"folder": "."}, "is the folder you are in"),
        ({"folder": ".."}, "is the folder you are in"),
    ):
        with pytest.raises(UserError, match=message):
            export(made, **{"folder": "exported", **words})
    data = TrainingData(sessions(), N, SUPPORT, CPU, {})
    config = resolve(composed("model=pop", "dataset=table", "dataset.path=none"))
    pop = Recommender(config, catalogue(), make_baseline(config, data), CPU, {})
    with pytest.raises(UserError, match="it counts and has no weights"):
        export(pop, "exported")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs onnx and onnxscript and onnxruntime: pip install"):
        export(made, "exported", ["onnx"])
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_a_failure_leaves_the_earlier_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, folder = recommender("model=id_only"), tmp_path / "exported"
    export(made, folder)
    before = (folder / ABOUT).read_text()

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(module, "write_projector", fail)
    with pytest.raises(OSError, match="disk full"):
        export(made, folder, ["vectors", "projector"])
    assert (folder / ABOUT).read_text() == before
    assert {path.name for path in tmp_path.iterdir()} == {"exported"}
