"""Every architecture against its equations, written out densely in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from p_rnn.batches import Batch
from p_rnn.data.features import Feature
from p_rnn.models.architectures import build_network
from p_rnn.models.dropout import Dropout
from p_rnn.models.network import PRNN, Subnet
from p_rnn.settings.errors import UserError
from p_rnn.streams import Streams
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
)

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
    (layer,) = subnet.layers.cells
    h = np.zeros((gate_inputs.shape[1], subnet.layers.hidden_size))
    for a in gate_inputs:
        h = gru(layer, a, h)
    return h


def input_matrix(made: Any) -> np.ndarray:
    """W [columns, 3H] of an input, so that a = (1-of-N or phi) W, with embeddings multiplied in."""
    view = made.view
    if hasattr(view, "table"):
        table = array(view.table.weight)
        table = table[:V] if hasattr(view, "bags") else table  # the padding is no token
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


def windows(
    packed: np.ndarray, widths: list[int], picks: torch.Tensor, targets: torch.Tensor
) -> Batch:
    """A mini-batch of packed sequences, with the whole catalogue as candidates."""
    distinct, repeat = (torch.from_numpy(x) for x in np.unique(packed, return_inverse=True))
    return Batch(distinct, targets, None, targets, repeat=repeat, widths=widths, picks=picks)


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
    b, tables = array(made.merge.bias.weight)[:, 0], [array(t.weight) for t in made.merge.tables]
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
    w, b = array(made.merge.tables[0].weight), array(made.merge.bias.weight)[:, 0]
    np.testing.assert_allclose(scores(made), h @ w.T + b, rtol=1e-9)
    assert len(made.names) == len(made.merge.tables) == 1


def run_lstm(subnet: Subnet, gate_inputs: np.ndarray) -> np.ndarray:
    """h [B, H] after all steps, of gate inputs [T, B, 4H]."""
    (cell,) = subnet.layers.cells
    h = m = np.zeros((gate_inputs.shape[1], subnet.layers.hidden_size))
    for a in gate_inputs:
        i, f, g, o = np.split(a + h @ array(cell.recurrent) + array(cell.bias), 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-x)) for x in (i, f, o))
        m = f * m + i * np.tanh(g)
        h = o * np.tanh(m)
    return h


@pytest.mark.parametrize("how", INPUTS)
@pytest.mark.parametrize("features", FEATURE_INPUTS)
def test_a_network_of_lstms_is_its_equations(how: str, features: str) -> None:
    extra = ["embedding_size=3"] if how == "model.input=embedding" else []
    made = random_network(settings("model=parallel", "cell=lstm", how, features, *extra))
    expected = array(made.merge.bias.weight)[:, 0]
    parts = zip(made.subnets, views(made).values(), made.merge.tables, strict=True)
    for subnet, view, table in parts:
        (read,) = subnet.inputs
        expected = expected + run_lstm(subnet, view @ input_matrix(read)) @ array(table.weight).T
    np.testing.assert_allclose(scores(made), expected, rtol=1e-9)


def test_gru4recf_is_its_equations() -> None:
    """E_j . (A_id h_id + A_f h_f + a), one GRU over the concatenated embeddings of all fields."""
    made = random_network(settings("model=gru4recf", "embedding_size=3", "pooling_mode=mean"))
    table = array(made.merge.tables[0].weight)
    ids, fields = made.subnets
    image, tags = fields.inputs
    mean = bag_matrix() / np.maximum(bag_matrix().sum(axis=1, keepdims=True), 1)
    mean = mean.astype(np.float32).astype(np.float64)  # the code keeps these weights as float32
    at = clicks()
    both = [
        phi(FEATURES["image"])[at] @ array(image.view.weight),
        mean[at] @ array(tags.view.table.weight)[:V],
    ]
    whole = np.concatenate([array(image.weight), array(tags.weight)])

    def plain(subnet: Subnet, a: np.ndarray) -> np.ndarray:
        h, u = np.zeros((len(ITEMS), 4)), array(subnet.layers.cells[0].recurrent)
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
    assert count == (N + V + 1) * 64 + 2 * (64 * 384 + 128 * 384) + 256 * 64 + 64
    table = array(made.merge.tables[0].weight)
    assert table.shape == (N, 64)
    assert table.std() == pytest.approx(np.sqrt(2 / (N + 64)), rel=0.1)
    whole = np.concatenate([array(p) for p in made.merge.projections])
    assert whole.std() == pytest.approx(np.sqrt(2 / (256 + 64)), rel=0.05)
    assert (array(made.merge.offset) == 0).all()
    for subnet in made.subnets:
        for matrix in (subnet.layers.cells[0].recurrent, *(x.weight for x in subnet.inputs)):
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
            expected[item] = {"sum": rows.sum(0), "mean": rows.sum(0) / total, "max": rows.max(0)}[
                mode
            ]
    np.testing.assert_allclose(array(read(torch.arange(N))), expected, rtol=1e-6, atol=1e-12)
    one_empty = array(read(torch.tensor([2])))  # nothing but an empty bag
    assert (one_empty == 0).all()


def test_interaction_without_ids_and_with_states_of_ones_is_its_feature_part() -> None:
    made = random_network(settings("model=parallel_interaction", "subnets.id.weight=0"))
    plain = random_network(settings("model=parallel", "subnets.id.weight=0"))
    plain.load_state_dict(made.state_dict())
    hidden = [torch.ones(2, SIZE).double(), *(torch.randn(2, SIZE).double() for _ in range(2))]
    with torch.no_grad():
        ours, theirs = (net.merge(hidden, slice(0, N)) for net in (made, plain))
    assert torch.equal(ours, theirs)


def test_subnets_of_their_own_sizes() -> None:
    own = [
        "subnets.image.hidden_size=6",
        "subnets.image.num_layers=2",
        "subnets.tags.hidden_size=2",
    ]
    made = random_network(settings("model=parallel", *own))
    assert [s.layers.hidden_size for s in made.subnets] == [4, 6, 2]
    assert [len(s.layers.cells) for s in made.subnets] == [1, 2, 1]
    assert [h.shape[1] for h in made.begin(1)] == [4, 6, 6, 2]
    assert [tuple(h.shape) for h in states(made)] == [(5, 4), (5, 6), (5, 2)]
    assert np.isfinite(scores(made)).all()
    made = random_network(settings("model=gru4recf", "subnets.features.hidden_size=7"))
    assert [s.layers.hidden_size for s in made.subnets] == [4, 7]
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


# --- what learns --------------------------------------------------------------------------------

TARGETS = torch.tensor([5, 1, 0, 9, 10])


def of_steps() -> Batch:
    return Batch(torch.tensor(ITEMS), TARGETS, None, TARGETS)


def of_windows() -> Batch:
    """Targets after the last of three steps."""
    flat = clicks().ravel()
    return windows(flat, [len(ITEMS)] * STEPS, torch.arange(len(flat))[-len(ITEMS) :], TARGETS)


def update(made: PRNN, batch: Batch) -> dict[str, torch.Tensor]:
    """The gradients of one update, by name; they are cleared before."""
    made.zero_grad()
    now, _ = made(batch, made.begin(len(ITEMS)))
    now.log_softmax(1).gather(1, TARGETS[:, None]).sum().backward()
    found = {name: p.grad for name, p in made.named_parameters()}
    return {name: x.to_dense() for name, x in found.items() if x is not None}


def generators(subnet: Subnet) -> list[torch.Tensor]:
    """The states of the generators of its dropout, of hidden states and embeddings."""
    return [m.generator.get_state() for m in subnet.modules() if isinstance(m, Dropout)]


DROPOUT = ("model.feature_input=embedding", "dropout_embedding=0.4", "dropout_hidden=0.4")


@pytest.mark.parametrize("batch", [of_steps(), of_windows()], ids=["steps", "windows"])
@pytest.mark.parametrize("learners", [(0,), (1,), (0, 2), None])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_frozen_subnet_gets_no_gradient_and_draws_no_dropout(
    cell: str, learners: tuple[int, ...] | None, batch: Batch
) -> None:
    made = random_network(settings("model=parallel", f"cell={cell}", *DROPOUT))
    without = made.read(batch, made.begin(len(ITEMS)))[0]  # in evaluation mode
    made.learn(learners)
    before = [generators(subnet) for subnet in made.subnets]
    hidden = made.read(batch, made.begin(len(ITEMS)))[0]
    for k, subnet in enumerate(made.subnets):
        same = [torch.equal(*x) for x in zip(generators(subnet), before[k], strict=True)]
        assert len(same) == 2
        if learners is None or k in learners:
            assert hidden[k].requires_grad
            assert not any(same)
            assert (hidden[k] == 0).any()
        else:
            assert not hidden[k].requires_grad
            assert all(same)
            assert torch.equal(hidden[k], without[k])
    own = made.owners()
    learn = {n for n, k in own.items() if learners is None or k is None or k in learners}
    assert set(update(made, batch)) == learn
    made.learn(None)
    assert set(update(made, batch)) == set(own)


@pytest.mark.parametrize("batch", [of_steps(), of_windows()], ids=["steps", "windows"])
def test_a_shared_matrix_learns_from_the_scores_alone_where_its_subnet_is_frozen(
    batch: Batch,
) -> None:
    made = random_network(settings("model=parallel"))
    made.learn((1,))
    (table,) = (n for n, owner in owner_names(made).items() if owner == "shared")
    gradient = update(made, batch)[table]
    hidden = [h.detach() for h in made.read(batch, made.begin(len(ITEMS)))[0]]
    found = made.merge(hidden, slice(0, N)).log_softmax(1).gather(1, TARGETS[:, None]).sum()
    (wanted,) = torch.autograd.grad(found, made.merge.tables[0].weight)
    torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-14)
    made.learn(None)
    assert (update(made, batch)[table] - wanted).abs().max() > 1e-3


def test_what_is_frozen_stays_so_until_others_learn() -> None:
    made = network(settings("model=parallel"))
    made.learn((1,))
    for mode in (True, False, True):
        made.train(mode)
        assert [s.training for s in made.subnets] == [False, mode, False]
    made.eval()
    made.learn((1,))
    assert [s.training for s in made.subnets] == [False, True, False]
    made.learn((0, 2))
    assert [s.training for s in made.subnets] == [True, False, True]
    made.learn(None)
    assert all(m.training for m in made.modules())
    assert all(p.requires_grad for p in made.parameters())


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_select_takes_all_layers_of_the_chosen_subnets(cell: str) -> None:
    made = network(settings("model=parallel", f"cell={cell}", "subnets.image.num_layers=2"))
    state = made.begin(2)
    parts = 2 if cell == "lstm" else 1
    assert len(state) == 4 * parts
    other = tuple(h + 1 for h in state)
    image = [False] * parts + [True] * 2 * parts + [False] * parts
    for subnets, wanted in (
        ((1,), image),
        ((0, 2), [not x for x in image]),
        ((), [False] * 4 * parts),
        (None, [True] * 4 * parts),
    ):
        found = made.select(state, other, subnets)
        assert [bool((h == 1).all()) for h in found] == wanted
        assert all((h == h[0, 0]).all() for h in found)


# --- gradients ----------------------------------------------------------------------------------


def losses(made: PRNN, config: Any) -> torch.Tensor:
    """The loss after three steps of back-propagation through time, all items as candidates."""
    batch = of_windows()
    options = {
        "cross_entropy": {"logq": 0.0},
        "bpr_max": {"elu_param": 0.5, "bpreg": 0.7},
        "bpr": {"output": "tanh"},
        "gbce": {"num_items": made.num_items},
    }.get(config, {})
    return LOSSES[config](made(batch, ())[0], batch.column, None, **options).sum()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("model", "cell"), [*((model, "gru") for model in MODELS), ("parallel", "lstm")]
)
def test_gradients_are_finite_differences(model: str, cell: str, loss: str) -> None:
    """Every parameter of every architecture, along a random direction, in float64."""
    extra = [] if model == "feature_only" else ["embedding_size=4", "dropout_embedding=0"]
    made = random_network(settings(f"model={model}", f"cell={cell}", *extra))
    made.train()  # as it stands, a frozen network makes no gradients
    losses(made, loss).backward()
    gradients: dict[str, torch.Tensor] = {}
    for name, p in made.named_parameters():
        assert p.grad is not None, name
        gradients[name] = p.grad.to_dense()
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


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_gradients_of_bags_are_those_of_a_dense_product(mode: str, weighted: bool) -> None:
    """Each read adds to the rows of its tokens; the padding is zero and never moves."""
    config = settings("model=feature_only", f"pooling_mode={mode}")
    made = network(config, {"tags": bag(weighted=weighted)}).double()
    (read,) = made.subnets[0].inputs
    table = read.view.table.weight
    assert table.shape[0] == V + 1
    assert (table[V] == 0).all()
    items, weight = [2, 9, 11, 0, 11, 3], bag_matrix(weighted)[:, :, None]
    factor = torch.from_numpy(np.random.default_rng(0).normal(size=(len(items), table.shape[1])))
    (read(torch.tensor(items)) * factor).sum().backward()
    wanted = np.zeros((V + 1, table.shape[1]))
    for item, f in zip(items, factor.numpy(), strict=True):
        if not BAGS[item]:
            continue
        rows = weight[item] * array(table)[:V]
        total = weight[item].sum() if mode == "mean" else 1.0
        largest = rows == rows[BAGS[item]].max(axis=0)
        wanted[:V] += weight[item] / total * f * (largest if mode == "max" else 1.0)
    assert table.grad is not None
    assert table.grad.is_sparse
    # The weights of a mean are kept as float32.
    atol = 1e-6 if mode == "mean" else 1e-12
    np.testing.assert_allclose(table.grad.to_dense(), wanted, rtol=1e-6, atol=atol)
    assert (table.grad.to_dense()[V] == 0).all()


def test_tables_make_dense_gradients_where_that_is_asked_for() -> None:
    sparse, dense = (random_network(settings("model=parallel")) for _ in range(2))
    dense.dense_gradients()
    items = torch.tensor([4, 1, 4, 11])
    for made in (sparse, dense):
        made.train()
        after = made.advance(torch.tensor(ITEMS), made.begin(len(ITEMS)))
        made.scores(after, items).square().sum().backward()
    pairs = zip(sparse.named_parameters(), dense.parameters(), strict=True)
    kinds = set()
    for (name, p), q in pairs:
        assert not q.grad.is_sparse, name
        kinds.add(p.grad.is_sparse)
        torch.testing.assert_close(p.grad.to_dense(), q.grad, rtol=1e-12, atol=1e-14)
    assert kinds == {False, True}


@pytest.mark.parametrize("model", [*MODELS, "bpr_mf"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("layers", [1, 2])
def test_reading_packed_sequences_is_stepping_through_them(
    model: str, cell: str, layers: int
) -> None:
    extra = [f"num_layers={layers}", f"cell={cell}", "embedding_size=4"]
    if model == "feature_only":
        extra = extra[:2]
    if model == "bpr_mf":
        extra = ["negatives=sampled"]
    made = random_network(settings(f"model={model}", *extra))
    rows = [[3, 1, 4, 1, 5], [9, 2, 6], [5, 3, 5], [8]]
    packed = [row[t] for t in range(5) for row in rows if t < len(row)]
    widths = [4, 3, 3, 1, 1]
    places = torch.arange(len(packed))
    hidden, _ = made.read(windows(np.array(packed), widths, places, places), ())
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
        (["model=id_only", "cell=lstm", "cell.reset=before"], "cell.reset has no effect: lstm"),
        (["model=id_only", "cell.name=gruu"], "unknown cell 'gruu'; did you mean 'gru'"),
        (["model=bpr_mf", "negatives=sampled", "cell=gru"], "cell has no effect on model=bpr_mf"),
    ],
)
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
