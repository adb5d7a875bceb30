"""Training on: which rows a network takes from a checkpoint, and what new items start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from p_rnn.models.architectures import MODELS
from p_rnn.runs.warm_start import check_warm_start
from p_rnn.settings.errors import UserError
from tests.conftest import random_log
from tests.runs.warm_worlds import BOTH, TAGS, World, table_of, world


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
