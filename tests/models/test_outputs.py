"""Rows of items from their features: the equations, cold items, and who owns what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from p_rnn.data.features import BagFeature, DenseFeature, Feature
from p_rnn.models.architectures import build_network
from p_rnn.models.features import Bags, DenseRows
from p_rnn.models.merges import Merge
from p_rnn.models.network import PRNN
from p_rnn.models.outputs import FeatureTable
from p_rnn.streams import Streams
from tests.worlds import BAGS, FEATURES, MODELS, N, V, dense, random_network, settings

OUTPUTS = ("features", "both")
ITEMS = torch.tensor([3, 0, 7, 3])
TRAINED = 9  # of the N items


def array(x: Any) -> np.ndarray:
    return x.detach().numpy()


def phi(pooling: str = "sum", weights: np.ndarray | None = None) -> np.ndarray:
    """The bag vectors [N, V]."""
    found = np.zeros((N, V))
    at = 0
    for item, tokens in enumerate(BAGS):
        for token in tokens:
            found[item, token] += 1.0 if weights is None else weights[at]
            at += 1
    if pooling == "mean":
        found /= np.maximum(found.sum(axis=1, keepdims=True), 1e-30)
    return found


def rows(table: FeatureTable, pooling: str = "sum") -> np.ndarray:
    """E_j + sum_f A_f phi_jf of all items, by NumPy; E is zero for items that it lacks."""
    total = np.zeros((N, table.width))
    if table.free is not None:
        total[: table.num_trained] += array(table.free.weight)
    image, tags = table.parts
    total += FEATURES["image"].values @ array(image.weight)
    return total + phi(pooling) @ array(tags.table.weight)[:V]


def hidden(made: PRNN) -> list[np.ndarray]:
    state = made.step(ITEMS, made.begin(len(ITEMS)), torch.ones(len(ITEMS), dtype=torch.bool))
    return [array(h) for h in made.hidden(state)]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("pooling", ["sum", "mean"])
@pytest.mark.parametrize("model", MODELS)
def test_scores_are_their_equation(model: str, output: str, pooling: str) -> None:
    made = random_network(
        settings(f"model={model}", f"model.output={output}", f"pooling_mode={pooling}")
    )
    state = made.step(ITEMS, made.begin(len(ITEMS)), torch.ones(len(ITEMS), dtype=torch.bool))
    merge = made.merge
    assert isinstance(merge, Merge)
    wanted = np.zeros((len(ITEMS), N))
    if merge.bias is not None:
        wanted += array(merge.bias.weight)[:, 0]
    queries = merge.queries(made.hidden(state))
    rtol = 1e-9 if pooling == "sum" else 1e-5  # the weights of a mean are float32
    for q, table in zip(queries, merge.tables, strict=True):
        assert isinstance(table, FeatureTable)
        wanted += array(q) @ rows(table, pooling).T
    with torch.no_grad():
        np.testing.assert_allclose(
            array(made.scores(state, slice(0, N))), wanted, rtol=rtol, atol=1e-7
        )
        some = torch.tensor([5, 1, 5, N - 1])
        np.testing.assert_allclose(
            array(made.scores(state, some)), wanted[:, some], rtol=rtol, atol=1e-7
        )
        own = torch.stack([some.roll(k) for k in range(len(ITEMS))])
        each = np.take_along_axis(wanted, own.numpy(), axis=1)
        np.testing.assert_allclose(array(made.scores(state, own)), each, rtol=rtol, atol=1e-7)


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_largest_token_per_column(output: str) -> None:
    made = random_network(settings(f"model.output={output}", "pooling_mode=max"))
    (table,) = made.merge.tables
    assert isinstance(table, FeatureTable)
    tags = table.parts[1]
    got = array(tags(torch.arange(N)))
    weight = array(tags.table.weight)
    for item, tokens in enumerate(BAGS):
        best = weight[tokens].max(axis=0) if tokens else np.zeros(table.width)
        np.testing.assert_allclose(got[item], best)


@pytest.mark.parametrize("model", ["id_only", "concat", "bpr_mf", "gru4recf"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_shared_table_is_the_same_rows_for_input_and_output(model: str, output: str) -> None:
    made = random_network(settings(f"model={model}", f"model.output={output}"))
    (table,) = made.merge.tables
    read = made.subnets[0].inputs[0]
    assert read.view.table is table
    np.testing.assert_allclose(array(read.view(ITEMS)), rows(table)[ITEMS], rtol=1e-9)


def trained_on_some(*overrides: str, features: dict[str, Feature] | None = None) -> PRNN:
    """A network that was trained on the first items, random in float64."""
    config = settings(*overrides)
    made = build_network(config, TRAINED, Streams(0), FEATURES if features is None else features)
    made = made.double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(generator=generator).mul_(0.5)
    return made


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("model", [*MODELS, "bpr_mf"])
def test_items_without_a_click_have_scores(model: str, output: str) -> None:
    made = trained_on_some(f"model={model}", f"model.output={output}")
    ranker = made.ranker()
    assert ranker.num_items == N
    every = torch.ones(len(ITEMS), dtype=torch.bool)
    state = ranker.step(ITEMS, ranker.begin(len(ITEMS)), every)
    wanted = np.zeros((len(ITEMS), N))
    merge = made.merge
    if merge.bias is not None:
        wanted[:, :TRAINED] += array(merge.bias.weight)[:, 0]
    for q, table in zip(merge.queries(made.hidden(state)), merge.tables, strict=True):
        wanted += array(q) @ rows(table).T
    np.testing.assert_allclose(array(ranker.scores(state, slice(0, N))), wanted, rtol=1e-9)
    product = array(ranker.queries(state)) @ array(ranker.vectors()).T
    np.testing.assert_allclose(product, wanted, rtol=1e-9)


def test_rows_computed_once_are_those_of_the_live_tables() -> None:
    made = trained_on_some("model=parallel")
    ranker = made.ranker()
    assert ranker.num_items == TRAINED
    assert all(
        a is not b and a.data_ptr() == b.weight.data_ptr()
        for a, b in zip(ranker.rows, made.merge.tables, strict=True)
    )


def one_step(made: PRNN, item: int) -> list[np.ndarray]:
    """The hidden states after item 1 and then `item`."""
    state = made.begin(1)
    for each in (1, item):
        state = made.step(torch.tensor([each]), state, torch.tensor([True]))
    return [array(h)[0] for h in made.hidden(state)]


def test_a_cold_item_is_read_by_the_subnets_that_read_its_features() -> None:
    made = trained_on_some("model=parallel")
    ids, image, tags = one_step(made, N - 1)
    before = [
        array(h)[0]
        for h in made.hidden(made.step(torch.tensor([1]), made.begin(1), torch.tensor([True])))
    ]
    np.testing.assert_array_equal(ids, before[0])  # as if it had not been clicked
    assert not np.allclose(image, before[1])
    assert not np.allclose(tags, before[2])
    # The same features under the id of an item that occurs in training.
    twin = dense()
    twin.values[2] = twin.values[N - 1]
    same = trained_on_some("model=parallel", features={**FEATURES, "image": twin})
    np.testing.assert_allclose(one_step(same, 2)[1], image)


def test_concatenated_inputs_of_a_cold_item_are_its_features_alone() -> None:
    made = trained_on_some("model=concat", "model.input=one_hot")
    (subnet,) = made.subnets
    cold = subnet.gate_inputs(torch.tensor([N - 1]))
    features = subnet.inputs[1](torch.tensor([N - 1])) + subnet.inputs[2](torch.tensor([N - 1]))
    np.testing.assert_allclose(array(cold), array(features))


def test_a_cold_item_is_skipped_where_only_ids_are_read() -> None:
    made = trained_on_some("model.output=both", "model.input=one_hot")
    np.testing.assert_array_equal(
        one_step(made, N - 1)[0], one_step(made, 1)[0] * 0 + one_step_of_one(made)
    )


def one_step_of_one(made: PRNN) -> np.ndarray:
    state = made.step(torch.tensor([1]), made.begin(1), torch.tensor([True]))
    return array(made.hidden(state)[0])[0]


def test_owners() -> None:
    own = settings("model=parallel", "model.output=both", "model.input=one_hot")
    made = build_network(own, N, Streams(0), FEATURES)
    owners = made.owners()
    for k, name in enumerate(made.names):
        of_table = {n: o for n, o in owners.items() if n.startswith(f"merge.tables.{k}.")}
        assert len(of_table) == 3, name
        assert set(of_table.values()) == {k}, name
    common = build_network(
        settings("model=parallel_shared", "model.output=both", "model.input=one_hot"),
        N,
        Streams(0),
        FEATURES,
    )
    assert {o for n, o in common.owners().items() if n.startswith("merge.tables.")} == {None}


def test_free_rows_start_the_same_with_and_without_features() -> None:
    free = build_network(settings("model=concat"), N, Streams(0), FEATURES)
    both = build_network(settings("model=concat", "model.output=both"), N, Streams(0), FEATURES)
    (table,), (mixed,) = free.merge.tables, both.merge.tables
    assert torch.equal(table.weight, mixed.free.weight)


def test_features_of_candidates_are_read_once_for_all_subnets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = build_network(settings("model=parallel", "model.output=both"), N, Streams(0), FEATURES)
    calls: list[str] = []
    for kind in (Bags, DenseRows):
        plain = kind.forward

        def counted(self: Any, items: Any, kind: Any = kind, plain: Any = plain) -> Any:
            calls.append(kind.__name__)
            return plain(self, items)

        monkeypatch.setattr(kind, "forward", counted)
    made.merge([torch.zeros(2, 4) for _ in made.names], torch.arange(5))
    assert sorted(calls) == ["Bags", "DenseRows"]


def test_features_are_on_the_device_once() -> None:
    made = build_network(settings("model=parallel", "model.output=both"), N, Streams(0), FEATURES)
    bags = {id(m) for m in made.modules() if type(m).__name__ == "Bags"}
    rows = {id(m) for m in made.modules() if type(m).__name__ == "DenseRows"}
    assert (len(bags), len(rows)) == (1, 1)


def test_half_precision_vectors_and_weighted_bags() -> None:
    half = DenseFeature("image", "h", dense().values.astype(np.float16))
    offsets = np.cumsum([0, *map(len, BAGS)]).astype(np.int64)
    weights = np.linspace(0.5, 2, offsets[-1], dtype=np.float32)
    tags = BagFeature("tags", "w", offsets, np.concatenate(BAGS).astype(np.int32), weights, V)
    made = trained_on_some("model.output=both", features={"image": half, "tags": tags})
    (table,) = made.merge.tables
    wanted = half.values.astype(np.float64) @ array(table.parts[0].weight)
    wanted += phi(weights=weights) @ array(table.parts[1].table.weight)[:V]
    wanted[:TRAINED] += array(table.free.weight)
    np.testing.assert_allclose(array(made.ranker().rows[0]), wanted, rtol=1e-6)
