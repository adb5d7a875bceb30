"""Every leaf of the config, perturbed, changes parameters, metrics or files of a small job."""

from __future__ import annotations

import csv
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from p_rnn.runs.experiment import train
from p_rnn.settings.errors import UserError
from p_rnn.settings.hydra_glue import load_config
from p_rnn.settings.roles import every_setting
from tests.conftest import random_log

BASE = [
    "dataset=table",
    "dataset.name=tiny",
    "dataset.path=tiny.csv",
    "dataset.columns.event_type=kind",
    "dataset.min_item_support=2",
    "dataset.test_days=2",
    *("hidden_size=8", "batch_size=8", "num_negatives=16", "num_epochs=2"),
    "tracking.progress=false",
    "tracking.log_every=5",
    "device=cpu",
]
EMBEDDING = ["model.input=embedding"]
BPR_MAX = ["loss=bpr_max"]
ATTENTION = ["cell=attention"]
ADAM = ["optimizer=adam", "learning_rate=0.01"]
ITEMS = ["dataset.item_table.path=items.csv"]
LEAVE_ONE_OUT = [
    f"dataset.{x}" for x in ("split=leave_one_out", "test_days=null", "straddling=null")
]
LISTS = [*ITEMS, "dataset.item_table.list_columns=[tags]", "dataset.item_table.list_separator=' '"]
GIVEN = [
    *(f"dataset.{x}=null" for x in ("min_session_length", "min_item_support", "test_days")),
    *("dataset.split=given", "dataset.straddling=null", "dataset.path=train.csv"),
    *("dataset.valid_path=valid.csv", "dataset.test_path=test.csv"),
]
WARES = ["dataset.item_table.path=wares.csv", "model=parallel"]
WORSE_STAGE = ["strategy=residual", "learning_rate=1", "num_epochs=3"]  # in validation
TAGS = [*WARES, "dataset.features.x.kind=tags", "dataset.features.x.columns=[words]"]
TEXT = [*WARES, "dataset.features.x.kind=text", "dataset.features.x.columns=[words]"]
NUMBER = [*WARES, "dataset.features.x.kind=number", "dataset.features.x.columns=[size]"]
CATEGORY = [*WARES, "dataset.features.x.kind=category", "dataset.features.x.columns=[words]"]
WORDS = [
    *CATEGORY,
    "dataset.features.x.file=words.csv",
    "dataset.features.x.encoding=latin-1",
]
LABELS = ["dataset.item_table.path=labels.csv", "dataset.item_table.encoding=latin-1"]
OF_FILE = [*NUMBER, "dataset.features.x.file=extra.csv"]
VECTORS = [
    *WARES,
    "dataset.features.x.kind=vector",
    "dataset.features.x.file=vectors.npy",
    "dataset.features.x.ids=ids.npy",
]
SEQUENCES = ["batching=sequences", "batch_size=20"]
SYNTHETIC = [
    "dataset=synthetic",
    "dataset.synthetic.num_events=3000",
    "dataset.synthetic.num_items=200",
]

# leaf: (overrides beside BASE, the perturbation)
CASES: dict[str, tuple[list[str], str]] = {
    "dataset.path": ([], "other.csv"),
    "dataset.columns.session": ([], "visitor"),
    "dataset.columns.item": ([], "item2"),
    "dataset.columns.time": ([*LEAVE_ONE_OUT, "dataset.path=shuffled.csv"], "null"),
    "dataset.columns.event_type": ([], "null"),
    "dataset.columns.history": (
        [*LEAVE_ONE_OUT, "dataset.columns.time=null", "dataset.path=histories.csv"],
        "history",
    ),
    "dataset.names": (
        ["dataset.path=headless.csv", "dataset.names=[session,item,time,item2,visitor,kind]"],
        "[session,item2,time,item,visitor,kind]",
    ),
    "dataset.quoting": (["dataset.path=quotes.csv"], "none"),
    "dataset.encoding": (["dataset.path=latin.csv", "dataset.encoding=latin-1"], "ascii"),
    "dataset.missing_ids": (["dataset.path=gaps.csv", "dataset.missing_ids=drop"], "error"),
    "dataset.where": ([], "'item < 15'"),
    "dataset.separator": (["dataset.path=semicolon.csv", "dataset.separator=';'"], "' '"),
    "dataset.time_unit": (["dataset.test_days=0.002"], "ms"),
    "dataset.item_table.path": (ITEMS, "items2.csv"),
    "dataset.item_table.item": ([*ITEMS, "dataset.item_table.columns=[colour,tags]"], "twin"),
    "dataset.item_table.columns": (ITEMS, "[colour]"),
    "dataset.item_table.list_separator": (LISTS, "'+'"),
    "dataset.item_table.list_columns": (LISTS, "[colour]"),
    "dataset.item_table.on_conflict": (
        ["dataset.item_table.path=twice.csv", "dataset.item_table.on_conflict=last"],
        "error",
    ),
    "dataset.item_table.separator": (
        ["dataset.item_table.path=semicolons.csv", "dataset.item_table.separator=';'"],
        "' '",
    ),
    "dataset.item_table.quoting": (LABELS, "none"),
    "dataset.item_table.encoding": (
        LABELS,
        "cp437",
    ),
    "dataset.item_table.names": (
        [
            *LABELS,
            "dataset.item_table.names=[item,a]",
        ],
        "[item,b]",
    ),
    "dataset.properties": ([], "['790']"),  # what it does: tests/data/readers/test_shops.py
    "dataset.events": ([], "'0123'"),  # what they do: tests/data/test_frames.py
    "dataset.items": ([], "'0123'"),
    "dataset.download": (["dataset=movielens_100k", "dataset.download=true"], "false"),
    "dataset.name": ([], "other"),
    "dataset.reader": ([], "sequences"),
    "dataset.source": (["dataset.path=absent.csv"], "somewhere"),
    "dataset.duplicates": (["dataset.path=duplicates.csv", "dataset.duplicates=drop"], "keep"),
    "dataset.event_types": ([], "[view]"),
    "dataset.time_range": ([], "['1970-01-01','1970-01-09']"),
    "dataset.session_gap_s": (["dataset.columns.session=visitor"], "3600"),
    "dataset.drop_repeats": (["dataset.path=repeats.csv"], "true"),
    "dataset.min_session_length": ([], "4"),
    "dataset.min_item_support": ([], "40"),
    "dataset.max_session_length": ([], "6"),
    "dataset.long_sessions": (["dataset.max_session_length=6"], "split"),
    "dataset.split": (LEAVE_ONE_OUT[1:], "leave_one_out"),
    "dataset.valid_path": (GIVEN, "other.csv"),
    "dataset.test_path": (GIVEN, "other.csv"),
    "dataset.validation": ([], "false"),
    "dataset.test_days": ([], "1"),
    "dataset.straddling": (["dataset.columns.session=visitor"], "truncate"),
    "model.name": ([], "none_such"),
    "model.input": ([], "one_hot"),
    "loss.name": (["loss.smoothing=0.1"], "none_such"),
    "loss.elu_param": (BPR_MAX, "1.0"),
    "loss.bpreg": (BPR_MAX, "3.0"),
    "loss.logq": ([], "0.5"),
    "loss.smoothing": ([], "0.2"),
    "loss.calibration": (["loss=gbce"], "0.2"),
    "loss.output": (["loss=bpr"], "linear"),
    "loss_type": (["num_negatives=null"], "CE"),
    "optimizer.name": ([], "none_such"),
    "optimizer.momentum": ([], "0.3"),
    "optimizer.beta1": (ADAM, "0.5"),
    "optimizer.beta2": (ADAM, "0.9"),
    "optimizer.eps": (ADAM, "0.1"),
    "model.feature_input": (TAGS, "embedding"),
    "model.output": (TAGS, "both"),
    "selected_features": (WARES, "[words]"),
    "subnets.*.hidden_size": (TAGS, "3"),
    "subnets.*.num_layers": (TAGS, "2"),
    "subnets.*.weight": (TAGS, "0.5"),
    "subnets.*.num_epochs": (TAGS, "1"),
    "dataset.features.*.kind": (NUMBER, "category"),
    "dataset.features.*.columns": (NUMBER, "[mass]"),
    "dataset.features.*.file": (OF_FILE, "extra2.csv"),
    "dataset.features.*.item": ([*OF_FILE, "dataset.features.x.item=item"], "twin"),
    "dataset.features.*.ids": (VECTORS, "ids2.npy"),
    "dataset.features.*.separator": (TAGS, "'+'"),
    "dataset.features.*.column_separator": (
        [
            *CATEGORY,
            "dataset.features.x.file=semicolons.csv",
            "dataset.features.x.columns=[tags]",
            "dataset.features.x.column_separator=';'",
        ],
        "','",
    ),
    "dataset.features.*.quoting": (WORDS, "none"),
    "dataset.features.*.encoding": (WORDS, "ascii"),
    "dataset.features.*.normalize": (VECTORS, "true"),
    "dataset.features.*.log": (NUMBER, "true"),
    "dataset.features.*.ngrams": (TEXT, "1"),
    "dataset.features.*.stop_words": (TEXT, "false"),
    "dataset.features.*.min_df": (TAGS, "4"),
    "dataset.features.*.max_df": (TEXT, "0.3"),
    "dataset.features.*.max_tokens": (TAGS, "3"),
    "dataset.features.*.num_buckets": (
        [*TAGS, "dataset.features.x.kind=hashed", "dataset.features.x.num_buckets=50"],
        "2",
    ),
    "strategy.name": (TAGS, "residual"),
    "cell.name": (["cell=gru", "cell.reset=null"], "lstm"),
    "cell.reset": ([], "before"),
    "cell.heads": (ATTENTION, "1"),
    "cell.span": (ATTENTION, "2"),
    "cell.dropout": (ATTENTION, "0.4"),
    "cell.gated": (ATTENTION, "true"),
    "clip_norm": ([], "0.001"),
    "schedule.name": ([], "cosine"),
    "schedule.warmup_epochs": ([], "0.5"),
    "ema": ([], "0.5"),
    "optimizer.weight_decay": ([], "0.5"),
    "early_stopping.metric": (["num_epochs=6", "learning_rate=1"], "mrr@1"),
    "early_stopping.patience": (["num_epochs=12", "learning_rate=1"], "1"),
    "early_stopping.keep": ([*TAGS, *WORSE_STAGE], "last_stage"),
    "train_on_validation": ([], "true"),
    "evaluation.cutoffs": ([], "[3,20]"),
    "evaluation.ties": (["dataset.path=ties.csv"], "standard"),
    "evaluation.cold_items": (["dataset.path=cold.csv", "dataset.min_item_support=1"], "keep"),
    "evaluation.exclude_seen": ([], "true"),
    "evaluation.most_popular": ([], "5"),
    "evaluation.beyond_accuracy": ([], "true"),
    "evaluation.baselines": ([], "[pop]"),
    "tracking.log_every": ([], "7"),
    "tracking.tensorboard": ([], "false"),
    "tracking.progress": ([], "true"),
    "paths.raw": ([], "elsewhere"),
    "paths.prepared": ([], "elsewhere"),
    "seed": ([], "1"),
    "device": ([], "none_such"),
    "num_threads": ([], "1"),
    "compile": ([], "graph"),  # what it does: tests/fast/test_door.py
    "matmul_precision": ([], "high"),  # of a GPU
    "portable": ([], "false"),
    "resume": ([], "none_such.pt"),
    "warm_start": ([], "none_such.pt"),  # what it does: tests/runs/test_warm_start_jobs.py
}
# Parameters of models that count, from which nothing is trained.
SIZES = ["hidden_size=null", "batch_size=null", "num_negatives=null", "num_epochs=null"]
COUNTS = {
    "neighbours": (["model=item_knn"], "2"),
    "shrinkage": (["model=item_knn"], "0"),
    "sample_size": (["model=v_sknn"], "5"),
    "idf": (["model=v_sknn"], "3"),
    "repeats": (["model=v_sknn"], "false"),
    "half_life_days": (["model=recently_popular"], "0.01"),
    "steps": (["model=markov"], "4"),
    "similar_items": (["model=feature_markov", *WARES[:1], "baseline.backoff=50"], "1"),
    "backoff": (["model=feature_markov", *WARES[:1]], "50"),
}
for name, (beside, value) in COUNTS.items():
    CASES[f"baseline.{name}"] = ([*SIZES, *beside], value)
HYPERPARAMETERS: dict[str, tuple[list[str], str]] = {
    "learning_rate": ([], "0.2"),
    "num_layers": ([], "2"),
    "hidden_size": ([], "12"),
    "embedding_size": (EMBEDDING, "5"),
    "dropout_prob": ([], "0.4"),
    "dropout_embedding": ([], "0.4"),
    "dropout_hidden": ([], "0.4"),
    "batch_size": ([], "5"),
    "negatives": (["num_negatives=null"], "full"),
    "batching": ([], "sequences"),
    "shuffle": ([], "true"),
    "reorder": ([], "3"),
    "window": (SEQUENCES, "3"),
    "stride": (SEQUENCES, "2"),
    "pooling_mode": (TAGS, "mean"),
    "num_negatives": ([], "3"),
    "sample_alpha": ([], "1.0"),
    "num_epochs": ([], "3"),
}
for name, case in HYPERPARAMETERS.items():
    CASES[name] = case
# A refusal is the effect of these: their only other values here are wrong ones.
REFUSED = {
    "model.name",
    "dataset.properties",
    "dataset.events",
    "dataset.items",
    "loss.name",
    "optimizer.name",
    "dataset.reader",
    "dataset.download",
    "dataset.source",
    "device",
    "compile",
    "matmul_precision",
    "resume",
    "warm_start",
    "paths.raw",
    "dataset.separator",
    "dataset.encoding",
    "dataset.missing_ids",
    "dataset.item_table.separator",
    "dataset.item_table.on_conflict",
    "dataset.features.*.column_separator",
    "dataset.features.*.encoding",
}
# Of these the effect is tested where it shows.
ELSEWHERE = {
    "sweep_name": "tests/settings/test_hydra_glue.py",
    "plugins": "tests/test_plugins.py",
    "checkpoint_minutes": "tests/runs/test_interrupted.py",
}


def write_raw(raw: Path) -> None:
    """The logs that the cases read."""
    raw.mkdir()
    log = random_log(seed=1)
    log["item2"] = log["item"] % 20
    log["visitor"] = log["session"] // 2
    log["kind"] = ["buy" if k % 5 == 0 else "view" for k in range(len(log))]
    log.to_csv(raw / "tiny.csv", index=False)
    random_log(seed=2).assign(kind="view").to_csv(raw / "other.csv", index=False)
    log.to_csv(raw / "semicolon.csv", index=False, sep=";")
    log.sample(frac=1, random_state=0).to_csv(raw / "shuffled.csv", index=False)
    pd.concat([log, log[::7]]).to_csv(raw / "duplicates.csv", index=False)
    repeats = log.loc[log.index.repeat(2)].reset_index(drop=True)
    repeats.assign(time=repeats["time"] * 2 + repeats.index % 2).to_csv(
        raw / "repeats.csv", index=False
    )
    late = log["time"] > log["time"].max() - 86_400
    cold = log.assign(item=log["item"].where(~late | (log["item"] > 3), 100 + log["item"]))
    cold.to_csv(raw / "cold.csv", index=False)
    log.assign(item=log["item"] % 3 + 10 * (log["session"] % 9)).to_csv(
        raw / "ties.csv", index=False
    )
    items = pd.DataFrame({"item": range(30), "twin": range(29, -1, -1)})
    items["colour"], items["tags"] = items["item"] % 4, "a b+c"
    items.to_csv(raw / "items.csv", index=False)
    items.assign(size=1.5).to_csv(raw / "items2.csv", index=False)
    write_layouts(raw, log, items)
    write_features(raw)


def write_layouts(raw: Path, log: pd.DataFrame, items: pd.DataFrame) -> None:
    """Logs and item tables that are written in other ways, and splits."""
    log.to_csv(raw / "headless.csv", index=False, header=False)
    quoted = [f'"{item}"' if k % 2 else f"{item}" for k, item in enumerate(log["item"])]
    log.assign(item=quoted).to_csv(raw / "quotes.csv", index=False, quoting=csv.QUOTE_NONE)
    log.assign(kind="café").to_csv(raw / "latin.csv", index=False, encoding="latin-1")
    log.assign(item=log["item"].where(log.index % 50 > 0)).astype({"item": "Int64"}).to_csv(
        raw / "gaps.csv", index=False
    )
    log.assign(history=log["item"].astype(str) + " 1 2 3").to_csv(
        raw / "histories.csv", index=False
    )
    first = log.groupby("session")["time"].transform("min").rank(pct=True)
    for name, low, high in (("train", 0, 0.6), ("valid", 0.6, 0.8), ("test", 0.8, 1)):
        log[(first > low) & (first <= high)].to_csv(raw / f"{name}.csv", index=False)
    pd.concat([items, items.assign(colour=7)]).to_csv(raw / "twice.csv", index=False)
    items.to_csv(raw / "semicolons.csv", index=False, sep=";")
    lines = [f"{n},{'café' if n % 2 else chr(34) + 'a' + chr(34)}" for n in range(30)]
    (raw / "labels.csv").write_text("\n".join(["item,label", *lines]) + "\n", encoding="latin-1")


def write_features(raw: Path) -> None:
    """An item table with features of every kind, and files of features."""
    rng = np.random.default_rng(3)
    wares = pd.DataFrame({"item": range(30), "twin": range(29, -1, -1)})
    wares["size"], wares["mass"] = rng.integers(1, 9, 30), rng.random(30)
    # Some words are rare, one is a stop word, one is in two items of three, pairs repeat.
    wares["words"] = [
        f"the w{k % 7}+w{k % 4} w{k % 11} {'often' * (k % 3 > 0)} r{k}" for k in range(30)
    ]
    wares.drop(columns="twin").to_csv(raw / "wares.csv", index=False)
    wares.to_csv(raw / "extra.csv", index=False)
    words = [
        f"{n},{'café' if n % 3 else chr(34) * (n % 2) + 'a' + chr(34) * (n % 2)}\n"
        for n in range(30)
    ]
    (raw / "words.csv").write_text("item,words\n" + "".join(words), encoding="latin-1")
    wares.assign(size=rng.random(30)).to_csv(raw / "extra2.csv", index=False)
    np.save(raw / "vectors.npy", rng.normal(size=(30, 4)).astype(np.float32))
    np.save(raw / "ids.npy", np.arange(30))
    np.save(raw / "ids2.npy", np.arange(30)[::-1].copy())


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function from overrides to everything a job leaves behind that is not a clock."""
    place = tmp_path_factory.mktemp("settings")
    write_raw(place / "raw")

    @cache
    def run(overrides: tuple[str, ...]) -> dict[str, Any]:
        folder = place / hashlib.sha256("\n".join(overrides).encode()).hexdigest()[:12]
        synthetic = any(o.startswith("dataset=synthetic") for o in overrides)
        base = [o for o in BASE if not (synthetic and o.startswith("dataset"))]
        places = [f"paths.raw={place / 'raw'}", f"paths.prepared={folder / 'prepared'}"]
        places = [
            next((o for o in overrides if o.split("=")[0] == p.split("=")[0]), p) for p in places
        ]
        rest = [o for o in overrides if not o.startswith("paths.")]
        if any(o.startswith("dataset=movielens") for o in rest):
            base = [o for o in base if not o.startswith("dataset")]
        monkeypatch = pytest.MonkeyPatch()
        monkeypatch.chdir(place)
        monkeypatch.setattr("p_rnn.data.readers.movielens.BASE_URL", "http://127.0.0.1:9/")
        try:
            return observe(train(load_config(*base, *places, *rest), folder), folder)
        except UserError as error:
            return {"error": str(error).replace(folder.name, "")}
        finally:
            monkeypatch.undo()

    return run


def observe(metrics: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Parameters, metrics, files and curves of a finished job."""
    last = folder / "checkpoints" / "last.pt"  # models that count have none
    state = torch.load(last, weights_only=True)["model"] if last.exists() else {}
    best = torch.load(last.with_name("best.pt"), weights_only=True)
    weights = b"".join(x.numpy().tobytes() for x in state.values())
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    curves = {
        tag: [(point.step, point.value) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if "events_per_s" not in tag
    }
    return {
        "weights": hashlib.sha256(weights).hexdigest(),
        "results": json.dumps(metrics["results"]),
        "counts": [metrics[key] for key in ("epochs", "best_epoch", "updates", "parameters")],
        "data": {k: metrics["dataset"][k] for k in ("name", "rules", "splits", "num_items")},
        "threads": metrics["environment"]["threads"],
        "prepared": sorted(
            (path.name, path.read_bytes())
            for path in Path(metrics["config"]["paths"]["prepared"]).rglob("items-*/*.json*")
        ),
        "files": sorted(p.name for p in folder.rglob("*") if "tfevents" not in p.name),
        "curves": curves,
        "best": sorted(best),
    }


def test_every_leaf_has_a_case() -> None:
    """Those of the synthetic world are perturbed in tests/synthetic/test_world.py."""
    keys = {key for key, _, _ in every_setting()}
    leaves = {key for key in keys if not key.startswith("dataset.synthetic.")}
    assert leaves == (set(CASES) | set(ELSEWHERE))


@pytest.mark.parametrize(
    "key", [k for k in CASES if k not in ("tracking.progress", "dataset.split")]
)
def test_leaf_has_an_effect(key: str, outcome: Any) -> None:
    beside, value = CASES[key]
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if key == "num_threads" else threads)
    try:
        before = outcome(tuple(beside)) if key != "num_threads" else outcome((*beside, "seed=0"))
        after = outcome((*beside, f"{key.replace('*', 'x')}={value}"))
    finally:
        torch.set_num_threads(threads)
    if key in REFUSED:
        assert after.get("error"), after.keys()
        assert "\n" not in after["error"]
    else:
        assert "error" not in before, before
        assert "error" not in after, after
    assert before != after


def test_split_has_an_effect(outcome: Any) -> None:
    assert outcome(())["data"] != outcome(tuple(LEAVE_ONE_OUT))["data"]


def test_progress_bars_appear_on_demand_and_in_no_file(
    outcome: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome(("seed=5", "tracking.progress=true"))
    assert "epoch 1" not in capfd.readouterr().err  # a file: lines of the log stay whole
    monkeypatch.setattr("p_rnn.tracking.redraws", lambda: True)
    outcome(("seed=6",))
    assert "epoch 1" not in capfd.readouterr().err
    outcome(("seed=6", "tracking.progress=true"))
    assert "epoch 1" in capfd.readouterr().err
