"""Training on: which rows a network takes from a checkpoint, and what new items start from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from p_rnn.data.catalogue import Catalogue
from p_rnn.data.dataset import Dataset
from p_rnn.data.features import Feature
from p_rnn.data.prepare import prepare
from p_rnn.models.architectures import MODELS, build_network
from p_rnn.models.inputs import PooledRows
from p_rnn.models.network import PRNN
from p_rnn.runs import jobs as jobs_module
from p_rnn.runs.comparison import load_features
from p_rnn.runs.experiment import train
from p_rnn.runs.fit import network_content
from p_rnn.runs.warm_start import check_warm_start, warm_start
from p_rnn.settings.config import Config, Settings
from p_rnn.settings.errors import UserError
from p_rnn.settings.resolve import resolve
from p_rnn.settings.roles import tells_rows_apart
from p_rnn.settings.sections import PathsConfig
from p_rnn.settings.stored import differences_of
from p_rnn.streams import Streams
from p_rnn.training.checkpoint import save_checkpoint
from tests.composed import composed
from tests.conftest import TINY, random_log
from tests.running import run_script

Make = Callable[..., Config]
TAGS = ["dataset.features.tags.kind=tags"]
VECTOR = [
    "dataset.features.look.kind=vector",
    "dataset.features.look.columns=[x,y,z]",
]
BOTH = ["dataset.item_table.path=items.csv", *TAGS, *VECTOR]


@dataclass
class World:
    """A prepared log, and networks on it."""

    config: Settings
    dataset: Dataset
    features: dict[str, Feature]

    @property
    def num_items(self) -> int:
        return self.dataset.num_train_items

    @property
    def ids(self) -> list[Any]:
        return list(self.dataset.item_ids[: self.num_items].tolist())

    @property
    def support(self) -> Any:
        return self.dataset.sessions("train").support(self.num_items)

    def settings(self, *overrides: str) -> Settings:
        """The settings of the world with another model."""
        sizes = ["hidden_size=4", "device=cpu"]
        made = resolve(composed("dataset=table", "dataset.path=none", *sizes, *overrides))
        chosen = list(self.features) if made.model.reads_features else None
        same = {"dataset": self.config.dataset, "paths": self.config.paths}
        return replace(made, **same, selected_features=made.selected_features or chosen)

    def network(self, config: Settings) -> PRNN:
        return build_network(config, self.num_items, Streams(config.seed), self.read(config))

    def read(self, config: Settings) -> dict[str, Feature]:
        return {name: self.features[name] for name in config.selected_features or []}

    def trained(self, config: Settings, path: Path) -> PRNN:
        """A network with random parameters, and its checkpoint."""
        network, generator = self.network(config), torch.Generator().manual_seed(1)
        padding = {m.table for m in network.modules() if isinstance(m, PooledRows)}
        with torch.no_grad():
            for p in network.parameters():
                p.normal_(generator=generator)
            for table in padding:
                table.weight[-1] = 0
        read = self.read(config)
        content = {
            "dataset": self.dataset.fingerprint,
            "features": [[name, f.fingerprint] for name, f in read.items()],
            "num_items": self.num_items,
            "with_validation": False,
        }
        if config.portable:
            content["items"] = Catalogue.of(self.dataset, read).pack()
        save_checkpoint(path, config, {**content, **network_content(network)})
        return network

    def started(self, config: Settings, path: Path) -> PRNN:
        """A network that starts from a checkpoint."""
        config = replace(config, warm_start=str(path), seed=9)
        network = self.network(config)
        warm_start(config, network, self.dataset.item_ids, self.read(config), self.support)
        return network


def world(folder: Path, log: pd.DataFrame, items: pd.DataFrame, *overrides: str) -> World:
    raw = folder / "raw"
    raw.mkdir(parents=True)
    log.to_csv(raw / "log.csv", index=False)
    items.to_csv(raw / "items.csv", index=False)
    rules = ["dataset.min_item_support=1", "dataset.test_days=2", "dataset.name=world"]
    given = composed("dataset=table", "dataset.path=log.csv", *rules, *(overrides or BOTH))
    given.paths = PathsConfig(str(raw), str(folder / "prepared"))
    given.model = composed("model=concat").model
    config = resolve(given)
    dataset = prepare(config.dataset, config.paths)
    return World(config, dataset, load_features(config, dataset, False))


def table_of(ids: Any, seed: int = 0, words: int = 6) -> pd.DataFrame:
    """Tags and a vector of each item, the same for an id in every table of a seed."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(1000, 3)).round(3)
    tags = [
        " ".join(f"t{k}" for k in rng.choice(words, rng.integers(1, 4), False)) for _ in range(1000)
    ]
    numbers = [int(str(each).lstrip("x")) for each in ids]
    frame = pd.DataFrame({"item": list(ids), "tags": [tags[n] for n in numbers]})
    return frame.assign(**{c: rows[numbers, k] for k, c in enumerate("xyz")})


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Items 0..29."""
    folder = tmp_path_factory.mktemp("first")
    return world(folder, random_log(seed=1), table_of(range(30)))


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Other events of the items 10..49, so other indices; some have tags that are new."""
    log = random_log(seed=2, num_items=40)
    items = table_of(range(10, 50))
    items.loc[items["item"] >= 35, "tags"] = "t0 u1"
    folder = tmp_path_factory.mktemp("second")
    return world(folder, log.assign(item=log["item"] + 10), items)


def combinations() -> list[tuple[str, ...]]:
    """Every architecture with every input and output that it takes."""
    found: list[tuple[str, ...]] = []
    for name, kind in MODELS.items():
        ids = ("one_hot", "embedding", "shared") if "input" in kind.reads else ("",)
        ids = ("shared",) if kind.projected else ids
        for output in ("free", "features", "both"):
            for k, of_ids in enumerate(ids):
                words = [f"model={name}", f"model.output={output}"]
                words += [f"model.input={of_ids}"] if of_ids else []
                if "feature_input" in kind.reads:
                    words.append(f"model.feature_input={('direct', 'embedding')[k % 2]}")
                found.append(tuple(words))
    return found


@pytest.mark.parametrize("words", combinations(), ids=" ".join)
def test_on_the_same_data_it_is_the_network_of_the_checkpoint(
    first: World, tmp_path: Path, words: tuple[str, ...]
) -> None:
    config = first.settings(*words)
    there = first.trained(config, tmp_path / "best.pt").state_dict()
    here = first.started(config, tmp_path / "best.pt").state_dict()
    assert there.keys() == here.keys()
    for name, value in there.items():
        assert torch.equal(value, here[name]), name


@pytest.mark.parametrize("cell", ["cell=lstm", "num_layers=2"])
def test_layers_and_cells_are_copied(first: World, tmp_path: Path, cell: str) -> None:
    config = first.settings("model=parallel", cell)
    there = first.trained(config, tmp_path / "best.pt").state_dict()
    here = first.started(config, tmp_path / "best.pt").state_dict()
    assert all(torch.equal(value, here[name]) for name, value in there.items())


def rows_of(made: World, weight: Any) -> dict[Any, np.ndarray]:
    return dict(zip(made.ids, weight.detach().numpy(), strict=True))


def as_text(made: World, folder: Path, prefix: str) -> World:
    """The same log with ids that are text."""
    log = pd.read_csv(Path(made.config.paths.raw) / "log.csv")
    items = pd.read_csv(Path(made.config.paths.raw) / "items.csv")
    words = [node.assign(item=prefix + node["item"].astype(str)) for node in (log, items)]
    return world(folder, *words)


@pytest.mark.parametrize("ids", ["integers", "text"])
def test_rows_follow_raw_ids(first: World, second: World, tmp_path: Path, ids: str) -> None:
    if ids == "text":
        first, second = (as_text(w, tmp_path / str(k), "x") for k, w in enumerate((first, second)))
    config = first.settings("model=id_only", "model.input=one_hot")
    old = first.trained(config, tmp_path / "best.pt")
    config = second.settings("model=id_only", "model.input=one_hot")
    fresh = second.network(replace(config, seed=9))
    new = second.started(config, tmp_path / "best.pt")
    both = set(first.ids) & set(second.ids)
    assert len(both) == 20
    assert [first.ids.index(each) for each in both] != [second.ids.index(each) for each in both]
    for name, weight in new.named_parameters():
        was, initial = old.get_parameter(name), fresh.get_parameter(name)
        if len(weight) != second.num_items:
            assert torch.equal(weight, was)
            continue
        now, before, unknown = (
            rows_of(w, x) for w, x in ((second, weight), (first, was), (second, initial))
        )
        for each in second.ids:  # without features, new ones stay as initialised
            np.testing.assert_array_equal(now[each], (before if each in both else unknown)[each])


def test_integers_are_found_among_ids_that_were_text(
    first: World, second: World, tmp_path: Path
) -> None:
    log = random_log(seed=1).astype({"item": str})
    log.loc[log["item"] == "3", "item"] = "three"
    items = table_of(range(30)).astype({"item": str})
    mixed = world(tmp_path / "mixed", log, items)
    config = mixed.settings("model=id_only")
    old = rows_of(mixed, mixed.trained(config, tmp_path / "best.pt").merge.tables[0].weight)
    made = second.started(second.settings("model=id_only"), tmp_path / "best.pt")
    now = rows_of(second, made.merge.tables[0].weight)
    for each in set(range(10, 30)) & set(second.ids):
        np.testing.assert_array_equal(now[each], old[str(each)])


def similar_to(items: pd.DataFrame, each: int, known: list[int], count: int = 10) -> list[int]:
    """By definition: the mean of the cosines of tags (as sets) and vectors."""

    def cosine(a: Any, b: Any) -> float:
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    table = items.set_index("item")
    words = sorted({w for text in table["tags"] for w in text.split()})
    sets = {
        i: np.array([w in table.loc[i, "tags"].split() for w in words], float) for i in table.index
    }
    vectors = {i: table.loc[i, list("xyz")].to_numpy(float) for i in table.index}
    mean = {k: (cosine(sets[each], sets[k]) + cosine(vectors[each], vectors[k])) / 2 for k in known}
    best = sorted((k for k in known if mean[k] > 1e-6), key=lambda k: -mean[k])
    return best[:count]


@pytest.mark.parametrize("words", ["model=concat", "model=parallel"])
def test_new_items_start_from_those_similar_by_features(
    first: World, second: World, tmp_path: Path, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = [words, "model.input=embedding"]
    old = first.trained(first.settings(*config), tmp_path / "best.pt")
    new = second.started(second.settings(*config), tmp_path / "best.pt")
    known = [each for each in second.ids if each in first.ids]
    added = [each for each in second.ids if each not in first.ids]
    items = pd.read_csv(Path(second.config.paths.raw) / "items.csv")
    near = {each: similar_to(items, each, known) for each in added}
    assert any(len(each) == 10 for each in near.values())
    tables = [
        name
        for name, p in new.named_parameters()
        if len(p) == second.num_items and len(old.get_parameter(name)) == first.num_items
    ]
    assert len(tables) == (3 if words == "model=concat" else 5)  # with the bias
    for name in tables:
        now, was = rows_of(second, new.get_parameter(name)), rows_of(first, old.get_parameter(name))
        for each in added:
            mean = np.mean([was[k] for k in near[each]], axis=0)
            np.testing.assert_allclose(now[each], mean, rtol=1e-4, atol=1e-5)
    told = f"{len(known)} of {len(known) + len(added)} items keep their rows, {len(added)} new ones"
    assert f"{told} start from their features; " in caplog.text
    assert "; 6 of 7 tokens of tags" in caplog.text


def test_a_row_beside_features_starts_at_zero(first: World, second: World, tmp_path: Path) -> None:
    config = ["model=concat", "model.output=both", "model.input=embedding"]
    first.trained(first.settings(*config), tmp_path / "best.pt")
    network = second.started(second.settings(*config), tmp_path / "best.pt")
    added = torch.tensor([each not in first.ids for each in second.ids])
    (table,), bias = network.merge.tables, network.merge.bias.weight
    assert not table.free.weight[added].any()
    assert not bias[added].any()
    assert table.free.weight[~added].all()
    assert bias[~added].all()
    embedding = network.subnets[0].inputs[0].view.table.weight  # a plain table, that of the input
    assert embedding[added].all()


def test_items_without_similar_ones_stay_as_initialised(
    first: World, second: World, tmp_path: Path
) -> None:
    log = pd.read_csv(Path(second.config.paths.raw) / "log.csv")
    items = pd.read_csv(Path(second.config.paths.raw) / "items.csv")
    lonely = {40, 41, 42}
    items.loc[items["item"].isin(lonely), "tags"] = "unheard"
    made = world(tmp_path / "lonely", log, items, "dataset.item_table.path=items.csv", *TAGS)
    start = world(
        tmp_path / "start",
        random_log(seed=1),
        table_of(range(30)),
        "dataset.item_table.path=items.csv",
        *TAGS,
    )
    start.trained(start.settings("model=concat"), tmp_path / "best.pt")
    config = made.settings("model=concat")
    fresh = made.network(replace(config, seed=9)).merge.tables[0].weight
    now = made.started(config, tmp_path / "best.pt").merge.tables[0].weight
    same = (fresh == now).all(dim=1).tolist()
    assert {each for each, stays in zip(made.ids, same, strict=True) if stays} == lonely


@pytest.mark.parametrize("output", ["free", "features"])
def test_rows_of_tokens_follow_the_vocabulary(
    first: World, second: World, tmp_path: Path, output: str
) -> None:
    config = ["model=feature_only", f"model.output={output}", "selected_features=[tags]"]
    old = first.trained(first.settings(*config), tmp_path / "best.pt")
    fresh = second.network(replace(second.settings(*config), seed=9))
    new = second.started(second.settings(*config), tmp_path / "best.pt")
    before, after = (w.features["tags"].fitted.state["vocabulary"] for w in (first, second))
    assert before != after[: len(before)]  # the order is another one
    tables = [n for n, p in new.named_parameters() if len(p) == len(after) + 1]
    assert len(tables) == (1 if output == "free" else 2)
    for name in tables:
        now, was, unknown = (w.get_parameter(name) for w in (new, old, fresh))
        for k, token in enumerate(after):
            row = was[before.index(token)] if token in before else unknown[k]
            assert torch.equal(now[k], row)
        assert not now[-1].any()


def test_hashed_tokens_go_by_number(tmp_path: Path) -> None:
    def made(name: str, buckets: int) -> World:
        how = ["dataset.features.tags.kind=hashed", f"dataset.features.tags.num_buckets={buckets}"]
        place = ["dataset.item_table.path=items.csv", *how]
        return world(tmp_path / name, random_log(seed=1), table_of(range(30)), *place)

    a, b, c = made("a", 8), made("b", 8), made("c", 9)
    config = a.settings("model=feature_only")
    old = a.trained(config, tmp_path / "best.pt").state_dict()
    new = b.started(b.settings("model=feature_only"), tmp_path / "best.pt").state_dict()
    assert all(torch.equal(value, new[name]) for name, value in old.items())
    with pytest.raises(UserError, match=r"give the same dataset\.features\.tags\.num_buckets"):
        c.started(c.settings("model=feature_only"), tmp_path / "best.pt")


def test_a_vector_of_another_width_is_refused(first: World, tmp_path: Path) -> None:
    narrow = [*BOTH[:2], "dataset.features.look.kind=vector", "dataset.features.look.columns=[x,y]"]
    other = world(tmp_path / "narrow", random_log(seed=1), table_of(range(30)), *narrow)
    first.trained(first.settings("model=concat"), tmp_path / "best.pt")
    with pytest.raises(UserError, match="'look' had 3 columns there, and 2 now") as error:
        other.started(other.settings("model=concat"), tmp_path / "best.pt")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("hidden_size=5", "hidden_size=4, not 5"),
        ("model=concat", "model.name=parallel, not concat"),
        ("cell=lstm", "cell.name=gru, not lstm"),
        ("num_layers=2", "num_layers=1, not 2"),
        ("model.input=one_hot", "model.input=shared, not one_hot"),
        ("model.output=both", "model.output=free, not both"),
        ("pooling_mode=mean", "pooling_mode=sum, not mean"),
        ("selected_features=[tags]", r"selected_features=\['tags', 'look'\], not \['tags'\]"),
        ("subnets.tags.hidden_size=3", "subnets.tags.hidden_size=null, not 3"),
    ],
)
def test_another_architecture_is_refused_in_one_line(
    first: World, tmp_path: Path, other: str, said: str
) -> None:
    first.trained(first.settings("model=parallel"), tmp_path / "best.pt")
    words = [other] if other.startswith("model=") else ["model=parallel", other]
    config = replace(first.settings(*words), warm_start=str(tmp_path / "best.pt"))
    with pytest.raises(UserError, match=said) as error:
        check_warm_start(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "other",
    ["dropout_prob=0.3", "loss=cross_entropy", "optimizer=adam", "strategy=residual", "ema=0.9"],
)
def test_how_it_learns_may_change(first: World, tmp_path: Path, other: str) -> None:
    first.trained(first.settings("model=parallel"), tmp_path / "best.pt")
    config = first.settings("model=parallel", other)
    check_warm_start(replace(config, warm_start=str(tmp_path / "best.pt")))
    first.started(config, tmp_path / "best.pt")


def test_a_checkpoint_that_is_not_portable_needs_its_data(first: World, tmp_path: Path) -> None:
    config = replace(first.settings("model=concat", "model.output=both"), portable=False)
    there = first.trained(config, tmp_path / "best.pt").state_dict()
    here = first.started(config, tmp_path / "best.pt").state_dict()
    assert all(torch.equal(value, here[name]) for name, value in there.items())
    elsewhere = replace(config.paths, prepared=str(tmp_path / "nothing"))
    gone = replace(config, paths=elsewhere, warm_start=str(tmp_path / "best.pt"))
    with pytest.raises(UserError, match=r"give paths\.prepared=<the folder"):
        check_warm_start(gone)


# --- whole jobs ---------------------------------------------------------------------------------


@pytest.fixture
def job(tiny: Make, tmp_path: Path) -> Make:
    """A small job with features."""
    table_of(range(30)).to_csv(tmp_path / "raw" / "items.csv", index=False)

    def make(*overrides: str) -> Config:
        words = ["model=concat", *BOTH, "tracking.tensorboard=false", *overrides]
        return tiny(*(words if "model=pop" not in overrides else overrides))

    return make


def test_the_first_validation_is_that_of_the_checkpoint(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = train(job("num_epochs=2"), tmp_path / "a")
    seen: list[dict[str, float]] = []
    fit = jobs_module.fit

    def watched(trainer: Any, validate: Any, *rest: Any) -> Any:
        seen.append(validate())
        return fit(trainer, validate, *rest)

    monkeypatch.setattr(jobs_module, "fit", watched)
    best = str(tmp_path / "a" / "checkpoints" / "best.pt")
    metrics = train(job("num_epochs=1", "seed=3", f"warm_start={best}"), tmp_path / "b")
    assert seen[0] == {name: start["valid"][name] for name in seen[0]}
    assert metrics["config"]["warm_start"] == best


def test_the_final_training_starts_from_the_checkpoint_too(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(job(), tmp_path / "a")
    sizes: list[int] = []
    real = jobs_module.warm_start

    def watched(config: Any, network: PRNN, *rest: Any) -> None:
        real(config, network, *rest)
        sizes.append(network.num_items)

    monkeypatch.setattr(jobs_module, "warm_start", watched)
    best = tmp_path / "a" / "checkpoints" / "best.pt"
    words = [f"warm_start={best}", "train_on_validation=true"]
    train(job(*words), tmp_path / "b")
    assert len(sizes) == 2
    train(job(*words, f"resume={tmp_path / 'b' / 'checkpoints' / 'last.pt'}"), tmp_path / "c")
    assert len(sizes) == 3  # what is resumed has its weights; the final training starts again


def test_a_resumed_run_ends_as_one_that_was_not_interrupted(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(job(), tmp_path / "a")
    best = tmp_path / "a" / "checkpoints" / "best.pt"
    words = [f"warm_start={best}", "num_epochs=2"]
    whole = train(job(*words), tmp_path / "whole")
    train(job(*words[:1]), tmp_path / "half")
    shutil.move(best, tmp_path / "moved.pt")  # a resumed run does not need it
    last = tmp_path / "half" / "checkpoints" / "last.pt"
    resumed = train(job(*words, f"resume={last}"), tmp_path / "rest")
    assert resumed["test"] == whole["test"]
    a, b = (
        torch.load(tmp_path / name / "checkpoints" / "last.pt", weights_only=True)["model"]
        for name in ("whole", "rest")
    )
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    with pytest.raises(UserError, match="was trained with warm_start="):
        train(job("num_epochs=2", f"resume={last}"), tmp_path / "other")


def test_a_missing_checkpoint_is_said_before_data_are_prepared(job: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no checkpoint at .*none\.pt"):
        train(job(f"warm_start={tmp_path / 'none.pt'}"), tmp_path / "a")
    assert not (tmp_path / "prepared").exists()


def test_models_that_count_refuse_it(job: Make, tmp_path: Path) -> None:
    words = ["model=pop", "warm_start=best.pt"]
    nothing = [
        f"{key}=null" for key in ("hidden_size", "batch_size", "num_negatives", "num_epochs")
    ]
    with pytest.raises(UserError, match="warm_start has no effect on model=pop"):
        train(job(*words, *nothing), tmp_path / "a")
    counted = train(job("model=pop", *nothing), tmp_path / "pop")
    assert counted["epochs"] == 0
    best = tmp_path / "pop" / "checkpoints" / "best.pt"
    with pytest.raises(UserError, match=r"model\.name=pop, not concat"):
        train(job(f"warm_start={best}"), tmp_path / "b")


def test_runs_that_start_from_a_checkpoint_are_rows_of_their_own() -> None:
    assert tells_rows_apart("warm_start")
    config = resolve(composed("dataset=table", "dataset.path=none"))
    other = replace(config, warm_start="best.pt")
    varied = differences_of(config, other, lambda known: True)
    assert list(varied) == [("warm_start", "null", "best.pt")]


def test_searches_take_it(job: Make, tmp_path: Path) -> None:
    train(job(), tmp_path / "a")
    raw, best = tmp_path / "raw", tmp_path / "a" / "checkpoints" / "best.pt"
    words = ["model=concat", *BOTH, f"paths.prepared={tmp_path / 'prepared'}", *TINY]
    how = ["--space", "network", "--trials", "1", "--name", "again"]
    done = run_script("search", tmp_path, *how, *words, f"warm_start={best}", raw=raw)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 0, said
    assert "30 of 30 items keep their rows" in said


def test_one_epoch_after_a_warm_start_is_better_than_one_from_nothing(tmp_path: Path) -> None:
    """Sessions walk through the items, which change a little on the sixth day."""
    log = random_log(seed=4, num_sessions=600, num_items=60)
    later = log.groupby("session")["time"].transform("min") >= 5 * 86_400
    log["item"] += 10 * later
    (tmp_path / "raw").mkdir()
    log.to_csv(tmp_path / "raw" / "tiny.csv", index=False)
    table_of(range(70)).to_csv(tmp_path / "raw" / "items.csv", index=False)

    def run(name: str, *overrides: str) -> float:
        config = composed(*TINY, "model=concat", *BOTH, "tracking.tensorboard=false", *overrides)
        config.paths = PathsConfig(str(tmp_path / "raw"), str(tmp_path / "prepared"))
        recall: float = train(config, tmp_path / name)["test"]["recall@5"]
        return recall

    run("old", "dataset.time_range=['1970-01-01','1970-01-06']", "num_epochs=8")
    fresh = run("fresh")
    warm = run("warm", f"warm_start={tmp_path / 'old' / 'checkpoints' / 'best.pt'}")
    assert warm > fresh + 0.1
