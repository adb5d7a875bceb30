"""Every architecture against its equations, written out densely in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from p_rnn.data.features import Feature
from p_rnn.errors import UserError
from p_rnn.models.architectures import build_network
from p_rnn.models.network import PRNN, Subnet
from p_rnn.random import Streams
from p_rnn.training.losses import LOSSES
from tests.worlds import (
    BAGS,
    FEATURES,
    MODELS,
    ONE_SUBNET,
    N,
    V,
    bag,
    dense,
    network,
    random_network,
    settings,
)  # fmt: skip

ITEMS = [3, 2, 11, 0, 3]  # with a repeat; item 2 has an empty bag
STEPS = 3
SIZE = 4


def array(x: torch.Tensor) -> np.ndarray:
    return x.detach().numpy()


def bag_matrix(weighted: bool = False) -> np.ndarray:
    """[N, V]: how often (with what weight) an item has a token."""
    matrix, flat = np.zeros((N, V)), iter(np.linspace(0.5, 2, sum(map(len, BAGS)), dtype="f4"))
    for item, tokens in enumerate(BAGS):
        for token in tokens:
            matrix[item, token] = next(flat) if weighted else 1.0
    return matrix


def phi(feature: Feature) -> np.ndarray:
    """[N, columns] the dense vector of each item."""
    return bag_matrix() if hasattr(feature, "tokens") else feature.values.astype(np.float64)


def gru(layer: Any, a: np.ndarray, h: np.ndarray) -> np.ndarray:
    """The GRU with reset=after, from its equations."""
    size, u = h.shape[1], array(layer.recurrent)
    r = 1 / (1 + np.exp(-(a + array(layer.input_bias) + h @ u + array(layer.bias))[:, :size]))
    z = (a + array(layer.input_bias) + h @ u + array(layer.bias))[:, size : 2 * size]
    z = 1 / (1 + np.exp(-z))
    inner = h @ u[:, 2 * size :] + array(layer.bias)[2 * size :]
    n = np.tanh(a[:, 2 * size :] + array(layer.input_bias)[2 * size :] + r * inner)
    return (1 - z) * n + z * h


def run_gru(subnet: Subnet, gate_inputs: np.ndarray) -> np.ndarray:
    """h [B, H] after all steps, of gate inputs [T, B, 3H]."""
    (layer,) = subnet.gru.layers
    h = np.zeros((gate_inputs.shape[1], subnet.gru.hidden_size))
    for a in gate_inputs:
        h = gru(layer, a, h)
    return h


def input_matrix(made: Any) -> np.ndarray:
    """W [columns, 3H] of an input, so that a = (1-of-N or phi) W, with embeddings multiplied in."""
    view = made.view
    if hasattr(view, "table"):
        table = array(view.table.weight)
        return table @ array(made.weight) if hasattr(made, "weight") else table
    inner = array(view.weight) if hasattr(view, "weight") else np.eye(made.weight.shape[0])
    return inner @ array(made.weight)


def clicks() -> np.ndarray:
    return np.stack([np.roll(ITEMS, t) for t in range(STEPS)])  # [T, B]


def states(made: PRNN) -> list[np.ndarray]:
    state = made.begin(len(ITEMS))
    for items in clicks():
        state = made.advance(torch.from_numpy(items), state)
    return [array(h) for h in made.hidden(state)]


def scores(made: PRNN) -> np.ndarray:
    state = made.begin(len(ITEMS))
    for items in clicks():
        state = made.advance(torch.from_numpy(items), state)
    with torch.no_grad():
        return array(made.scores(state, slice(0, N)))


INPUTS = ["model.input=one_hot", "model.input=embedding", "model.input=shared"]
FEATURE_INPUTS = ["model.feature_input=direct", "model.feature_input=embedding"]


def views(made: PRNN) -> dict[str, np.ndarray]:
    """One-hot or feature vector of each click [T, B, columns], by the name of the subnet."""
    at = clicks()
    found = {"id": np.eye(N)[at], **{name: phi(f)[at] for name, f in FEATURES.items()}}
    return {name: found[name] for name in found if name in made.names}


@pytest.mark.parametrize("how", INPUTS)
@pytest.mark.parametrize("features", FEATURE_INPUTS)
@pytest.mark.parametrize("model", ["parallel", "parallel_shared", "parallel_interaction"])
def test_parallel_architectures_are_their_equations(model: str, how: str, features: str) -> None:
    extra = ["embedding_size=3"] if how == "model.input=embedding" else []
    chosen = ["subnets.id.weight=0.7", "subnets.image.weight=-1.5", "subnets.tags.weight=2"]
    made = random_network(settings(f"model={model}", how, features, *extra, *chosen))
    w_id, w_image, w_tags = 0.7, -1.5, 2.0
    h = []
    for subnet, view in zip(made.subnets, views(made).values(), strict=True):
        (read,) = subnet.inputs
        h.append(run_gru(subnet, view @ input_matrix(read)))
    for ours, theirs in zip(states(made), h, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    b, tables = array(made.merge.bias.weight), [array(t.weight) for t in made.merge.tables]
    if model == "parallel":
        expected = w_id * h[0] @ tables[0].T + w_image * h[1] @ tables[1].T
        expected = expected + w_tags * h[2] @ tables[2].T + b
    elif model == "parallel_shared":
        expected = (w_id * h[0] + w_image * h[1] + w_tags * h[2]) @ tables[0].T + b
    else:
        expected = w_id * h[0] @ tables[0].T + w_image * (h[0] * h[1]) @ tables[1].T
        expected = expected + w_tags * (h[0] * h[2]) @ tables[2].T + b
    np.testing.assert_allclose(scores(made), expected, rtol=1e-9)


@pytest.mark.parametrize("how", [*INPUTS, "model.input=null"])
def test_concat_and_feature_only_are_one_gru_on_the_concatenated_vector(how: str) -> None:
    """[w_1 e; w_2 phi; w_3 psi] W with W stacked from the parts, written out densely."""
    only = how == "model.input=null"
    extra = ["embedding_size=3"] if how == "model.input=embedding" else []
    extra += [] if only else ["subnets.id.weight=0.5"]
    model = "feature_only" if only else "concat"
    made = random_network(settings(f"model={model}", how, "subnets.tags.weight=3", *extra))
    at, (subnet,) = clicks(), made.subnets
    parts = [phi(FEATURES["image"])[at], 3.0 * phi(FEATURES["tags"])[at]]
    parts = parts if only else [0.5 * np.eye(N)[at], *parts]
    whole = np.concatenate([input_matrix(read) for read in subnet.inputs])
    h = run_gru(subnet, np.concatenate(parts, axis=2) @ whole)
    w, b = array(made.merge.tables[0].weight), array(made.merge.bias.weight)
    np.testing.assert_allclose(scores(made), h @ w.T + b, rtol=1e-9)
    assert len(made.names) == len(made.merge.tables) == 1


def test_gru4recf_is_its_equations() -> None:
    """E_j . (A_id h_id + A_f h_f + a), one GRU over the concatenated embeddings of all fields."""
    made = random_network(settings("model=gru4recf", "embedding_size=3", "pooling_mode=mean"))
    table = array(made.merge.tables[0].weight)
    ids, fields = made.subnets
    image, tags = fields.inputs
    mean = bag_matrix() / np.maximum(bag_matrix().sum(axis=1, keepdims=True), 1)
    at = clicks()
    both = [phi(FEATURES["image"])[at] @ array(image.view.weight),
            mean[at] @ array(tags.view.table.weight)]  # fmt: skip
    whole = np.concatenate([array(image.weight), array(tags.weight)])

    def plain(subnet: Subnet, a: np.ndarray) -> np.ndarray:
        h, u = np.zeros((len(ITEMS), 4)), array(subnet.gru.layers[0].recurrent)
        for now in a:  # no biases anywhere
            r, z = (1 / (1 + np.exp(-(now + h @ u)[:, 4 * k : 4 * k + 4])) for k in (0, 1))
            n = np.tanh(now[:, 8:] + r * (h @ u[:, 8:]))
            h = (1 - z) * n + z * h
        return h

    h_id = plain(ids, np.eye(N)[at] @ table @ array(ids.inputs[0].weight))
    h_f = plain(fields, np.concatenate(both, axis=2) @ whole)
    a_id, a_f = (array(p) for p in made.merge.projections)
    query = h_id @ a_id + h_f @ a_f + array(made.merge.offset)
    np.testing.assert_allclose(scores(made), query @ table.T, rtol=1e-9)
    assert made.merge.bias is None
    assert not any("bias" in name for name, _ in made.named_parameters())


def test_gru4recf_starts_from_the_distributions_of_recbole() -> None:
    config = settings("model=gru4recf", "hidden_size=128")
    made = network(config, {"tags": bag()})
    # Of RecBole's 272,896 parameters on ml-100k: 1,683 x 64 and 20 x 64 in tables with a row for
    # padding, two GRUs without biases, a linear layer on both outputs.
    count = sum(p.numel() for p in made.parameters())
    assert count == (N + V) * 64 + 2 * (64 * 384 + 128 * 384) + 256 * 64 + 64
    table = array(made.merge.tables[0].weight)
    assert table.shape == (N, 64)
    assert table.std() == pytest.approx(np.sqrt(2 / (N + 64)), rel=0.1)
    whole = np.concatenate([array(p) for p in made.merge.projections])
    assert whole.std() == pytest.approx(np.sqrt(2 / (256 + 64)), rel=0.05)
    assert (array(made.merge.offset) == 0).all()
    for subnet in made.subnets:
        for matrix in (subnet.gru.layers[0].recurrent, *(x.weight for x in subnet.inputs)):
            values = array(matrix)
            assert np.abs(values).max() <= 1 / np.sqrt(128)
            assert values.std() == pytest.approx(1 / np.sqrt(3 * 128), rel=0.05)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_pooling_modes(mode: str, weighted: bool) -> None:
    feature = bag(weighted=weighted)
    config = settings("model=feature_only", f"pooling_mode={mode}")
    made = random_network(config, {"tags": feature})
    (read,) = made.subnets[0].inputs
    table = array(read.view.table.weight)
    weight = bag_matrix(weighted)
    expected = np.zeros((N, table.shape[1]))
    for item, tokens in enumerate(BAGS):
        rows = np.array([weight[item, t] * table[t] for t in tokens])
        if len(rows):
            total = weight[item, tokens].sum()
            expected[item] = {"sum": rows.sum(0), "mean": rows.sum(0) / total,
                              "max": rows.max(0)}[mode]  # fmt: skip
    np.testing.assert_allclose(array(read(torch.arange(N))), expected, rtol=1e-6, atol=1e-12)
    one_empty = array(read(torch.tensor([2])))  # nothing but an empty bag
    assert (one_empty == 0).all()


def test_interaction_without_ids_and_with_states_of_ones_is_its_feature_part() -> None:
    made = random_network(settings("model=parallel_interaction", "subnets.id.weight=0"))
    plain = random_network(settings("model=parallel", "subnets.id.weight=0"))
    plain.load_state_dict(made.state_dict())
    hidden = [torch.ones(2, SIZE).double(), *(torch.randn(2, SIZE).double() for _ in range(2))]
    with torch.no_grad():
        ours, theirs = (net.merged(hidden, slice(0, N)) for net in (made, plain))
    assert torch.equal(ours, theirs)


def test_subnets_of_their_own_sizes() -> None:
    own = [
        "subnets.image.hidden_size=6",
        "subnets.image.num_layers=2",
        "subnets.tags.hidden_size=2",
    ]
    made = random_network(settings("model=parallel", *own))
    assert [s.gru.hidden_size for s in made.subnets] == [4, 6, 2]
    assert [len(s.gru.layers) for s in made.subnets] == [1, 2, 1]
    assert [h.shape[1] for h in made.begin(1)] == [4, 6, 6, 2]
    assert [tuple(h.shape) for h in states(made)] == [(5, 4), (5, 6), (5, 2)]
    assert np.isfinite(scores(made)).all()
    made = random_network(settings("model=gru4recf", "subnets.features.hidden_size=7"))
    assert [s.gru.hidden_size for s in made.subnets] == [4, 7]
    assert np.isfinite(scores(made)).all()


def test_a_component_more_changes_nobody_elses_initial_weights() -> None:
    one, more = network(settings("model=id_only")), network(settings("model=parallel"))
    for name, p in one.named_parameters():
        assert torch.equal(p, dict(more.named_parameters())[name]), name


# --- owners -------------------------------------------------------------------------------------


def owner_names(made: PRNN) -> dict[str, str]:
    names = {None: "shared", **dict(enumerate(made.names))}
    return {name: names[k] for name, k in made.owners().items()}


def test_every_parameter_has_the_right_owner() -> None:
    own = owner_names(network(settings("model=parallel", "model.input=one_hot")))
    for name, owner in own.items():
        if name.startswith("merge.tables"):
            assert owner == ("id", "image", "tags")[int(name.split(".")[2])]
        elif name == "merge.bias.weight":
            assert owner == "id"
        else:
            assert owner == ("id", "image", "tags")[int(name.split(".")[1])]
    own = owner_names(network(settings("model=parallel")))
    assert own["subnets.0.inputs.0.view.table.weight"] == "shared"  # E is also W^id
    assert own["subnets.0.inputs.0.weight"] == "id"
    assert own["merge.tables.1.weight"] == "image"
    own = owner_names(network(settings("model=parallel_shared", "model.input=one_hot")))
    assert own["merge.tables.0.weight"] == "shared"
    own = owner_names(network(settings("model=gru4recf")))
    assert own["merge.projections.0"] == "id"
    assert own["merge.projections.1"] == "features"
    assert own["merge.offset"] == own["subnets.0.inputs.0.view.table.weight"] == "shared"
    own = owner_names(network(settings("model=id_only", "model.input=one_hot")))
    assert set(own.values()) == {"id"}


# --- gradients ----------------------------------------------------------------------------------


def losses(made: PRNN, config: Any) -> torch.Tensor:
    """The loss after three steps of back-propagation through time, all items as candidates."""
    flat = torch.from_numpy(clicks().ravel())
    picks = torch.arange(len(flat) - len(ITEMS), len(flat))
    hidden = made.read(flat, [len(ITEMS)] * STEPS, picks)
    target = torch.tensor([5, 1, 0, 9, 10])
    options = {"cross_entropy": {"logq": 0.0}, "bpr_max": {"elu_param": 0.5, "bpreg": 0.7},
               "bpr": {"output": "tanh"}}.get(config, {})  # fmt: skip
    return LOSSES[config](made.merged(hidden, slice(0, N)), target, None, **options).sum()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_gradients_are_finite_differences(model: str, loss: str) -> None:
    """Every parameter of every architecture, along a random direction, in float64."""
    extra = [] if model == "feature_only" else ["embedding_size=4"]
    made = random_network(settings(f"model={model}", *extra))
    losses(made, loss).backward()
    gradients: dict[str, torch.Tensor] = {}
    for name, table in made.tables().items():
        taken = table.take_gradient()
        assert taken is not None
        whole = torch.zeros_like(table.weight)
        if taken.rows is None:
            whole += taken.values
        else:
            whole[taken.rows] = taken.values
        gradients[f"{name}.weight"] = whole
    for name, p in made.named_parameters():
        if p.requires_grad:
            assert p.grad is not None, name
            gradients[name] = p.grad
    rng, step = torch.Generator().manual_seed(3), 1e-5
    for name, p in made.named_parameters():
        direction = torch.randn(p.shape, generator=rng, dtype=torch.float64)
        with torch.no_grad():
            values = []
            for sign in (1, -1):
                p += sign * step * direction
                values.append(losses(made, loss).item())
                p -= sign * step * direction
        slope = (values[0] - values[1]) / (2 * step)
        ours = (gradients[name] * direction).sum().item()
        assert ours == pytest.approx(slope, rel=1e-5, abs=1e-7), name


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("layers", [1, 2])
def test_reading_packed_sequences_is_stepping_through_them(model: str, layers: int) -> None:
    extra = [] if model == "feature_only" else ["embedding_size=4"]
    made = random_network(settings(f"model={model}", f"num_layers={layers}", *extra))
    rows = [[3, 1, 4, 1, 5], [9, 2, 6], [5, 3, 5], [8]]
    packed = [row[t] for t in range(5) for row in rows if t < len(row)]
    widths = [4, 3, 3, 1, 1]
    hidden = made.read(torch.tensor(packed), widths, torch.arange(len(packed)))
    place = 0
    state = made.begin(len(rows))
    for t, width in enumerate(widths):
        now = torch.tensor([row[t] for row in rows if t < len(row)])
        state = made.advance(now, tuple(h[:width] for h in state))
        for ours, theirs in zip(hidden, made.hidden(state), strict=True):
            torch.testing.assert_close(ours[place : place + width], theirs, rtol=1e-9, atol=1e-12)
        place += width


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["model=id_only", "selected_features=[image]"], "selected_features has no effect"),
        (["model=id_only", "pooling_mode=max"], "pooling_mode has no effect"),
        (["model=id_only", "model.feature_input=direct"], "model.feature_input has no effect"),
        (["model=feature_only", "model.input=one_hot"], "model.input has no effect"),
        (["model=feature_only", "dropout_embedding=0.1"], "dropout_embedding has no effect"),
        (["model=feature_only", "embedding_size=3"], "embedding_size has no effect"),
        (["model=parallel", "model.input=null"], "model.input is null, but parallel needs it"),
        (["model=parallel", "model.feature_input=null"], "model.feature_input is null"),
        (["model=concat", "subnets.image.hidden_size=3"], "subnets.image.hidden_size has no"),
        (["model=concat", "subnets.tags.num_epochs=3"], "subnets.tags.num_epochs has no effect"),
        (["model=parallel", "embedding_size=3"], "must equal the hidden_size=4"),
        (
            ["model=parallel", "subnets.id.hidden_size=3", "embedding_size=4"],
            "must equal the hidden_size=3",
        ),
        (["model=gru4recf", "model.input=one_hot"], "model.input must be shared"),
        (["model=parallel", "selected_features=[]"], "must name one feature"),
        (["model=parallel", "selected_features=[tags,tags]"], "each once"),
        (["model=paralel"], "did you mean 'parallel'"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused_before_any_data(
    overrides: list[str], says: str
) -> None:
    if overrides == ["model=paralel"]:
        overrides = ["model=id_only", "model.name=paralel"]
    with pytest.raises(UserError, match=says) as error:
        settings(*overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["model=parallel", "subnets.imag.weight=2"], "subnets.imag .*did you mean 'image'"),
        (["model=parallel", "subnets.imag.num_epochs=2"], "subnets.imag has no effect"),
        (["model=gru4recf", "subnets.image.weight=2"], "Known: features, id"),
        (["model=feature_only", "subnets.id.weight=2"], "Known: image, tags"),
        (["model=parallel_shared", "subnets.image.hidden_size=3"], "equal hidden_size, not id 4"),
        (["model=parallel_interaction", "subnets.tags.hidden_size=3"], "tags 3"),
    ],
)
def test_settings_of_absent_or_unequal_subnets_are_refused(overrides: list[str], says: str) -> None:
    config = settings(*overrides)
    with pytest.raises(UserError, match=says) as error:
        build_network(config, N, Streams(0), FEATURES)
    assert "\n" not in str(error.value)


def test_one_subnet_architectures_have_one() -> None:
    for model in MODELS:
        made = network(settings(f"model={model}"))
        expected = 1 if model in ONE_SUBNET else 2 if model == "gru4recf" else 3
        assert len(made.names) == expected


def test_dense_rows_of_half_precision_are_read_as_they_are() -> None:
    feature = dense()
    half = type(feature)("image", "fp", feature.values.astype(np.float16))
    (read,) = network(settings("model=feature_only"), {"image": half}).subnets[0].inputs
    expected = half.values[[4, 4, 1]].astype(np.float32) @ array(read.weight)
    np.testing.assert_allclose(array(read(torch.tensor([4, 4, 1]))), expected, rtol=1e-5)
