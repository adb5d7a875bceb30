"""Damaged checkpoints and prepared folders are refused in one line, or make no difference."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.api import load
from p_rnn.data import checksums
from p_rnn.data.catalogue import Catalogue
from p_rnn.data.features import prepare_features
from p_rnn.data.prepare import item_table_folder, prepare
from p_rnn.runs.comparison import evaluate_checkpoint
from p_rnn.runs.experiment import train
from p_rnn.settings.commands import EvaluateConfig
from p_rnn.settings.hydra_glue import load_config
from tests.conftest import TINY, random_log
from tests.damage import ANY, ARRAY, Tally, flips, json_edits, put_back, tried
from tests.damaged_checkpoints import checkpoint_edits
from tests.running import run_script

FEATURES = (
    "dataset.item_table.path=items.parquet",
    "dataset.item_table.item=item",
    "model=concat",
    "tracking.tensorboard=false",
)


class World:
    """A small data set with features of three kinds, and a run on it."""

    def __init__(self, place: Path) -> None:
        self.place, self.number = place, 0
        raw = place / "raw"
        raw.mkdir()
        random_log(seed=1, num_sessions=80).to_csv(raw / "tiny.csv", index=False)
        rng = np.random.default_rng(0)
        items = pd.DataFrame({"item": np.arange(30)})
        items["price"] = np.arange(30) / 2
        items["tags"] = [["a", f"t{k % 5}"] for k in range(30)]
        items["picture"] = list(rng.normal(size=(30, 4)).astype(np.float32))
        items.to_parquet(raw / "items.parquet")
        self.paths = [f"paths.raw={raw}", f"paths.prepared={place / 'prepared'}"]
        self.config = load_config(*TINY, *FEATURES, *self.paths)
        self.metrics = self.train("num_epochs=2", folder="run")
        self.checkpoints = place / "run" / "checkpoints"
        (self.prepared,) = (p for p in (place / "prepared").iterdir() if p.is_dir())

    def train(self, *words: str, folder: str | None = None) -> Any:
        """The losses and metrics of a run."""
        checksums._seen.clear()  # as a new process
        self.number += 1
        config = load_config(*TINY, *FEATURES, *self.paths, *words)
        made = train(config, self.place / (folder or f"again{self.number}"))
        return [row["loss"] for row in made["history"]], made["test"], made["valid"]

    def prepare(self) -> Any:
        """All that is read of the prepared data."""
        checksums._seen.clear()
        config = self.config
        dataset = prepare(config.dataset, config.paths)
        features = prepare_features(config.dataset, config.paths, dataset, None)
        catalogue = Catalogue.of(
            dataset, features, table=item_table_folder(config.dataset, config.paths, dataset)
        )
        found: list[Any] = [dataset.num_train_items, dataset.num_seen_items, str(catalogue.pack())]
        for split in dataset.splits:
            own = dataset.sessions(split)
            found += [own.items.tolist(), own.offsets.tolist(), own.times.tolist()]
        for feature in features.values():
            parts = [value for value in vars(feature).values() if isinstance(value, np.ndarray)]
            found += [part.tolist() for part in parts]
        both, num_items = dataset.training_sessions(with_validation=True)
        return [*found, both.items.tolist(), num_items]

    def read(self, checkpoint: Path) -> Any:
        """What is recommended and measured with a checkpoint."""
        model = load(checkpoint, "cpu")
        top = model.recommend(model.catalogue.ids_of([0, 1]), k=10)
        shown = model.catalogue.labels([*range(len(model.catalogue))])
        results, _ = evaluate_checkpoint(EvaluateConfig(str(checkpoint), device="cpu"))
        return top.ids, list(top.scores), json.dumps(shown), results["test"]["concat"]["metrics"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("damage"))


HANDFUL = ("cut at 0.5", "pipe", "folder", "bare tensor", "torch object", "text", "pickle")


def test_a_damaged_checkpoint(world: World) -> None:
    path, tally = world.checkpoints / "best.pt", Tally()
    right = world.read(path)
    edits = checkpoint_edits(path)
    some = [name for name in edits if name.startswith(("swapped", "num_items", "value"))][::12]
    harms = {name: ANY[name] for name in HANDFUL} | flips(4, 0) | {k: edits[k] for k in some}
    for label, harm in harms.items():
        tried(tally, label, path, harm, lambda: world.read(path), right)
    assert not tally.wrong
    assert tally.refused >= 10


def test_a_damaged_prepared_folder(world: World) -> None:
    tally, run = Tally(), world.prepare
    items, manifest = world.prepared / "train" / "items.npy", world.prepared / "manifest.json"
    for label, harm in {**ARRAY, "pipe": ANY["pipe"]}.items():
        tried(tally, f"items: {label}", items, harm, run, run())
    for label, harm in list(json_edits(manifest).items())[::20]:
        tried(tally, f"manifest: {label}", manifest, harm, run, run())
    assert not tally.wrong
    assert tally.tried > 12
    assert tally.harmless == 0


# --- all ----------------------------------------------------------------------------------------


def all_harms(path: Path, seed: int, count: int) -> dict[str, Callable[[Path], Any]]:
    harms = {**ANY, **flips(count, seed)}
    if path.suffix == ".npy":
        harms |= ARRAY
    if path.suffix == ".json":
        harms |= json_edits(path)
    if path.suffix == ".pt":
        harms |= checkpoint_edits(path)
    return harms


@pytest.mark.slow
def test_every_damage_of_checkpoints(world: World) -> None:
    tally = Tally()
    best, last = world.checkpoints / "best.pt", world.checkpoints / "last.pt"
    runs: list[tuple[Path, Callable[[], Any], int]] = [
        (best, lambda: world.read(best), 200),
        (last, lambda: world.train(f"resume={last}", "num_epochs=2"), 100),
        (best, lambda: world.train(f"warm_start={best}"), 20),
    ]
    for path, run, count in runs:
        right = run()
        for label, harm in all_harms(path, count, count).items():
            tried(tally, f"{path.name}: {label}", path, harm, run, right)
    print(f"\ncheckpoints: {tally}", *tally.wrong, sep="\n  ")
    assert not tally.wrong


@pytest.mark.slow
def test_every_damage_of_prepared_folders(world: World) -> None:
    tally = Tally()
    right = world.prepare()
    for path in sorted(world.prepared.rglob("*.*")):
        if not path.is_file():
            continue
        for label, harm in all_harms(path, 1, 6).items():
            name = path.relative_to(world.prepared)
            tried(tally, f"{name}: {label}", path, harm, world.prepare, right)
    print(f"\nprepared: {tally}", *tally.wrong, sep="\n  ")
    assert not tally.wrong


def packed(csv: Path, suffix: str) -> Path:
    """The log in an archive."""
    path = csv.with_name(f"packed.csv{suffix}")
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(csv, "a.csv")
        return path
    module = {".gz": gzip, ".bz2": bz2, ".xz": lzma}[suffix]
    path.write_bytes(module.compress(csv.read_bytes()))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".zip", ".gz", ".bz2", ".xz"])
def test_every_damage_of_archives(world: World, suffix: str) -> None:
    path, tally = packed(world.place / "raw" / "tiny.csv", suffix), Tally()
    config = load_config(*TINY, *world.paths, f"dataset.path={path.name}", "dataset.name=packed")

    def run() -> Any:
        paths = replace(config.paths, prepared=str(world.place / f"packed{world.number}"))
        world.number += 1
        dataset = prepare(config.dataset, paths)
        return [dataset.sessions(split).items.tolist() for split in dataset.splits]

    right = run()
    for label, harm in {**ANY, **flips(150, 7)}.items():
        tried(tally, f"{path.name}: {label}", path, harm, run, right)
    print(f"\n{suffix}: {tally}", *tally.wrong, sep="\n  ")
    assert not tally.wrong


@pytest.mark.slow
def test_commands_say_it_in_one_line(world: World) -> None:
    best, last = world.checkpoints / "best.pt", world.checkpoints / "last.pt"
    data = [*TINY, *FEATURES, *world.paths]
    ids = world.prepared / "item_ids.npy"
    commands: list[tuple[Path, str, list[str]]] = [
        (best, "evaluate", [f"checkpoint={best}", "device=cpu"]),
        (best, "recommend", [f"checkpoint={best}", "session=[1,2]", "device=cpu"]),
        (best, "export", [f"checkpoint={best}", "output=exported"]),
        (best, "train", [*data, f"warm_start={best}"]),
        (last, "train", [*data, f"resume={last}", "num_epochs=2"]),
        (ids, "prepare", [word for word in data if word.startswith(("dataset", "paths"))]),
        (ids, "train", data),
    ]
    for path, name, words in commands:
        for label in ("cut at 0.5", "bare tensor", "folder", "pickled class", "middle zeros"):
            with put_back(path):
                ANY[label](path)
                done = run_script(name, world.place, *words)
            said = done.stdout + done.stderr
            assert done.returncode == 2, (name, label, said)
            assert "Traceback" not in said
            assert sum("error: " in line for line in said.splitlines()) == 1, (name, label, said)
    words = [word for word in data if word.startswith(("dataset", "paths"))]
    done = run_script("prepare", world.place, *words, "verify=true")
    assert "files (" in done.stdout
    assert ") are as they were written" in done.stdout
