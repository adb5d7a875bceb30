"""Strategies: their passes by hand, and what they do to a network, against independent algebra."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from p_rnn.batches.windows import cut_windows
from p_rnn.models.cells import gru as gru_module
from p_rnn.models.network import PRNN
from p_rnn.training.losses import LOSSES
from p_rnn.training.strategies import STRATEGIES, PassPlan
from p_rnn.training.trainer import Trainer
from tests.worlds import FEATURES, MODELS, ONE_SUBNET, N, bag, settings, trainer, weights

ONE_HOT = "model.input=one_hot"  # nothing is shared between input and output
FEATURE = {"tags": FEATURES["tags"]}


def test_the_passes_of_each_strategy() -> None:
    def updates(name: str, epochs: list[int]) -> list[tuple[int, Any, int, bool]]:
        return [(p.in_score, p.updates, p.stage, p.ends_cycle) for p in STRATEGIES[name](epochs)]

    both, first, second = ((0, 1),), ((0,),), ((1,),)
    assert updates("simultaneous", [2, 2]) == [(2, both, 0, True)] * 2
    assert updates("simultaneous", [1, 2]) == [(2, both, 0, True), (2, second, 0, True)]
    cycle = [(2, first, 0, False), (2, second, 0, True)]
    assert updates("alternating", [2, 2]) == cycle * 2
    assert updates("alternating", [2, 1]) == [*cycle, (2, first, 0, True)]
    assert updates("residual", [2, 1]) == [(1, first, 0, True)] * 2 + [(2, second, 1, True)]
    assert updates("interleaving", [2, 2]) == [(2, ((0,), (1,)), 0, True)] * 2
    assert updates("interleaving", [1, 2])[1] == (2, second, 0, True)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("epochs", [[3], [2, 2], [3, 1, 2]])
def test_every_subnet_learns_in_exactly_its_epochs(name: str, epochs: list[int]) -> None:
    passes = STRATEGIES[name](epochs)
    counts = [sum(k in each for p in passes for each in p.updates) for k in range(len(epochs))]
    assert counts == epochs
    assert all(max(each) < p.in_score for p in passes for each in p.updates)
    if len(epochs) == 1:
        assert passes == [PassPlan(1, ((0,),))] * 3


@pytest.mark.parametrize("model", ONE_SUBNET)
def test_with_one_subnet_all_strategies_are_one(model: str, tmp_path: Path) -> None:
    results = []
    for name in STRATEGIES:
        config = settings(f"model={model}", f"strategy={name}", "dropout_hidden=0.2")
        job, recorder = trainer(config, tmp_path)
        assert len(job.passes) == 2
        for index in range(2):
            job.run_pass(index)
        results.append((recorder.losses, weights(job.network)))
    for losses, found in results[1:]:
        assert losses == results[0][0]
        assert all((found[key] == results[0][1][key]).all() for key in found)


# --- who changes --------------------------------------------------------------------------------


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {name for name in before if not np.array_equal(before[name], after[name])}


def owned(network: PRNN, *owners: int | None) -> set[str]:
    return {name for name, owner in network.owners().items() if owner in owners}


def passes(job: Trainer) -> list[set[str]]:
    """What each pass of the run changes."""
    found = []
    for index in range(len(job.passes)):
        before = weights(job.network)
        job.run_pass(index)
        found.append(changed(before, weights(job.network)))
    return found


@pytest.mark.parametrize("how", [ONE_HOT, "model.input=shared"])
@pytest.mark.parametrize(
    "model", ["parallel", "parallel_shared", "parallel_interaction", "gru4recf"]
)
def test_alternating_changes_exactly_the_owner_whose_turn_it_is(
    model: str, how: str, tmp_path: Path
) -> None:
    if model == "gru4recf":
        how = "model.input=shared"
    config = settings(f"model={model}", "strategy=alternating", how, "dropout_prob=0.2")
    job, _ = trainer(config, tmp_path)
    count = len(job.network.names)
    found = passes(job)
    assert len(found) == 2 * count
    for index, names in enumerate(found):
        assert names == owned(job.network, index % count, None), index
    assert job.learned == [job.updates // count] * count


@pytest.mark.parametrize("model", ["parallel", "parallel_interaction"])
def test_residual_leaves_what_earlier_subnets_own_bit_identical(model: str, tmp_path: Path) -> None:
    config = settings(f"model={model}", "strategy=residual", ONE_HOT, "subnets.image.num_epochs=1")
    job, _ = trainer(config, tmp_path)
    found = passes(job)
    owners = [0, 0, 1, 2, 2]  # two epochs, one, two
    assert found == [owned(job.network, k) for k in owners]


def test_in_residual_a_later_subnet_neither_runs_nor_has_a_state(tmp_path: Path) -> None:
    job, _ = trainer(settings("model=parallel", "strategy=residual"), tmp_path)
    job.run_pass(0)
    assert len(job.network.begin(2)) == 1
    with torch.no_grad():
        before = job.network.scores(job.network.begin(2), slice(0, N))
        job.network.merge.tables[2].weight.normal_()
        assert torch.equal(job.network.scores(job.network.begin(2), slice(0, N)), before)
    job.run_pass(2)
    assert len(job.network.begin(2)) == 2


def test_residual_with_a_zero_output_starts_from_the_loss_of_the_stage_before(
    tmp_path: Path,
) -> None:
    """W^2 = 0, no dropout, the same mini-batches and negatives: the same first loss."""
    config = settings("model=parallel", "strategy=residual", ONE_HOT, "num_epochs=1")
    job, recorder = trainer(config, tmp_path, FEATURE)
    job.run_pass(0)
    with torch.no_grad():
        job.network.merge.tables[1].weight.zero_()
    frozen = copy.deepcopy(job.network.state_dict())
    recorder.losses.clear()
    job.run_pass(1)
    stage_two = recorder.losses[0]
    # What stage one would have had on that mini-batch: its score alone, the numbers of pass 1.
    again, recorder = trainer(
        settings("model=parallel", "strategy=residual", ONE_HOT), tmp_path, FEATURE
    )
    again.network.load_state_dict(frozen)
    again.passes[1] = again.passes[0]
    again.run_pass(1)
    assert recorder.losses[0] == stage_two
    assert recorder.losses[1] != 0


# --- parallel with a weight of zero is id_only ---------------------------------------------------


@pytest.mark.parametrize("loss", ["cross_entropy", "bpr_max"])
@pytest.mark.parametrize("how", [ONE_HOT, "model.input=shared", "model.input=embedding"])
def test_parallel_with_weightless_features_is_id_only_bit_for_bit(
    how: str, loss: str, tmp_path: Path
) -> None:
    common = (how, f"loss={loss}", "dropout_hidden=0.3", "optimizer.momentum=0.2")
    one, one_losses = trainer(settings("model=id_only", *common), tmp_path)
    none = ("subnets.image.weight=0", "subnets.tags.weight=0")
    all_, all_losses = trainer(settings("model=parallel", *none, *common), tmp_path)
    for index in range(2):
        one.run_pass(index)
        all_.run_pass(index)
    assert one_losses.losses == all_losses.losses
    found = weights(all_.network)
    for name, value in weights(one.network).items():
        assert (found[name] == value).all(), name


# --- interleaving is the two-step update written by hand -----------------------------------------


def test_interleaving_is_the_two_updates_written_by_hand(tmp_path: Path) -> None:
    """Two subnets, one mini-batch after the other, plain autograd and Adagrad on dense tensors."""
    config = settings(
        "model=parallel",
        "strategy=interleaving",
        ONE_HOT,
        "loss=cross_entropy",
        "loss.logq=0",
        "num_negatives=0",
        "batch_size=3",
        "learning_rate=0.1",
        "num_epochs=1",
        "compile=never",
    )
    job, recorder = trainer(config, tmp_path, FEATURE)
    network = job.network.double()
    p = {name: torch.tensor(value, requires_grad=True) for name, value in weights(network).items()}
    acc = {name: torch.zeros_like(value) for name, value in p.items()}
    owner = network.owners()
    phi = torch.zeros(N, FEATURE["tags"].num_tokens, dtype=torch.float64)
    for item, tokens in enumerate(np.split(bag().tokens, bag().offsets[1:-1])):
        phi[item, tokens] = 1
    phi = torch.nn.functional.pad(phi, (0, 1))  # the table has a row for padding
    ones = torch.eye(N, dtype=torch.float64)

    def step(k: int, view: Tensor, h: Tensor) -> Tensor:
        stem = f"subnets.{k}.layers.cells.0"
        a = view @ p[f"subnets.{k}.inputs.0.view.table.weight"] + p[f"{stem}.input_bias"]
        u = h @ p[f"{stem}.recurrent"] + p[f"{stem}.bias"]
        r, z = torch.sigmoid(a[:, :8] + u[:, :8]).chunk(2, dim=1)
        n = torch.tanh(a[:, 8:] + r * u[:, 8:])
        return (1 - z) * n + z * h

    losses: list[float] = []
    carried: list[Tensor] = []
    for inputs, targets, first, stay in replay(job):
        if stay is None:
            state = [torch.zeros(3, 4).double() for _ in range(2)]
        else:
            state = [h[stay] * (~first)[:, None] for h in carried]
        if len(inputs) == 1:  # no negative is left: the state goes on
            carried = [step(k, v[inputs], state[k]).detach() for k, v in enumerate((ones, phi))]
            continue
        carried = []
        for k in (0, 1):
            h = [step(j, v[inputs], state[j]) for j, v in enumerate((ones, phi))]
            rows = [p[f"merge.tables.{j}.weight"][targets] for j in (0, 1)]
            scores = h[0] @ rows[0].t() + h[1] @ rows[1].t() + p["merge.bias.weight"][targets, 0]
            loss = -scores.log_softmax(dim=1).diagonal().sum() / 3
            losses.append(loss.item())
            for name, g in zip(p, torch.autograd.grad(loss, list(p.values())), strict=True):
                if owner[name] == k:  # only what subnet k owns moves
                    acc[name] += g * g
                    p[name].data -= 0.1 * g / torch.sqrt(acc[name] + 1e-6)
            carried.append(h[k].detach())
    job.run_pass(0)
    # The recorder has the mean of the examples of both updates of a mini-batch.
    count = [len(inputs) for inputs, *_ in replay(job) if len(inputs) > 1]
    pairs = np.array(losses).reshape(-1, 2).mean(axis=1) * 3 / count
    assert len(recorder.losses) == len(pairs)
    np.testing.assert_allclose(recorder.losses, pairs, rtol=1e-9)
    for name, value in weights(network).items():
        np.testing.assert_allclose(value, p[name].detach(), rtol=1e-7, atol=1e-10, err_msg=name)


def replay(job: Trainer) -> list[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """Session-parallel mini-batches, slot by slot: inputs, targets, is-first, slots that stay."""
    data = job.sessions
    queue = [data.items[a:b].tolist() for a, b in zip(data.offsets, data.offsets[1:], strict=False)]
    queue = [session for session in queue if len(session) > 1]
    slots = [[queue.pop(0), 0] for _ in range(3)]
    steps: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []
    stay: Tensor | None = None
    while slots:
        now = [(s[at], s[at + 1], at == 0) for s, at in slots]
        steps.append((*(torch.tensor(column) for column in zip(*now, strict=True)), stay))
        kept = []
        for number, (session, at) in enumerate(slots):
            if at + 2 < len(session):
                kept.append((number, [session, at + 1]))
            elif queue:
                kept.append((number, [queue.pop(0), 0]))
        stay = torch.tensor([number for number, _ in kept])
        slots = [slot for _, slot in kept]
    return steps


# --- frozen subnets cost a forward pass and nothing more ------------------------------------------


class Count:
    """Counts backward passes of GRU steps, gradients, and applications of the optimizer."""

    def __init__(self, job: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.forward = self.backward = 0
        self.applied: set[str] = set()
        steps = gru_module._ResetAfter
        ahead, back = steps.forward, steps.backward

        def forward(*args: Any) -> Tensor:
            self.forward += 1
            return ahead(*args)

        def backward(*args: Any) -> tuple[Tensor | None, ...]:
            self.backward += 1
            return back(*args)

        monkeypatch.setattr(steps, "forward", staticmethod(forward))
        monkeypatch.setattr(steps, "backward", staticmethod(backward))
        step, named = job.optimizer.step, dict(job.network.named_parameters())

        def spy() -> None:
            self.applied |= {name for name, p in named.items() if p.grad is not None}
            step()

        monkeypatch.setattr(job.optimizer, "step", spy)


@pytest.mark.parametrize("model", ["parallel", "parallel_shared", "parallel_interaction"])
def test_a_frozen_subnet_costs_a_forward_pass_and_nothing_more(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = (f"model={model}", "strategy=alternating", "optimizer=adam", "compile=never")
    job, _ = trainer(settings(*chosen, ONE_HOT), tmp_path)
    job.run_pass(0)
    state, parameters = job.optimizer.state, dict(job.network.named_parameters())
    rests = {n: {k: x.clone() for k, x in state[p].items()} for n, p in parameters.items()}
    before, count = job.updates, Count(job, monkeypatch)
    job.run_pass(1)
    steps = job.updates - before
    assert count.forward == 3 * steps
    assert count.backward == steps
    learned = owned(job.network, 1, None)
    assert count.applied == learned
    for name in parameters.keys() - learned:
        for key, x in state[parameters[name]].items():
            assert torch.equal(x, rests[name][key]), (name, key)


def test_dropout_acts_in_the_learning_subnet_only(tmp_path: Path) -> None:
    config = settings("model=parallel", "strategy=alternating", ONE_HOT, "dropout_hidden=0.5")
    job, _ = trainer(config, tmp_path)
    items = torch.tensor([0, 1, 3, 4, 5, 6])  # none with an empty bag
    job.network.learn((1,))
    hidden = job.network.hidden(job.network.advance(items, job.network.begin(len(items))))
    assert [bool((h == 0).any()) for h in hidden] == [False, True, False]
    assert [h.requires_grad for h in hidden] == [False, True, False]


FIRST = next(iter(STRATEGIES))

# --- every cell ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batching", ["session_parallel", "sequences"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("model", "strategy"),
    # With one subnet all strategies are one, as the test above says.
    [(m, s) for m in MODELS for s in STRATEGIES if s == FIRST or m not in ONE_SUBNET],
)
def test_every_cell_trains(
    model: str, strategy: str, loss: str, batching: str, tmp_path: Path
) -> None:
    config = settings(
        f"model={model}",
        f"strategy={strategy}",
        f"loss={loss}",
        f"batching={batching}",
        "num_epochs=1",
        "negatives=sampled",
        "num_negatives=4",
        "dropout_hidden=0.1",
    )
    job, recorder = trainer(config, tmp_path)
    before = weights(job.network)
    events = [job.run_pass(index).events for index in range(len(job.passes))]
    assert np.isfinite(recorder.losses).all()
    assert len(set(events)) == 1
    assert events[0] == sum(max(n - 1, 0) for n in job.sessions.lengths)
    # In one epoch of each subnet everything has moved, but for bias rows of items never drawn.
    assert changed(before, weights(job.network)) == set(before)


@pytest.mark.parametrize("negatives", ["full", "uniform_one"])
@pytest.mark.parametrize("batching", ["session_parallel", "sequences"])
@pytest.mark.parametrize("model", ["parallel", "gru4recf"])
def test_every_kind_of_negatives_trains(
    model: str, batching: str, negatives: str, tmp_path: Path
) -> None:
    loss = ("loss=bpr", "loss.output=linear") if negatives == "uniform_one" else ("loss=bpr_max",)
    config = settings(f"model={model}", f"batching={batching}", f"negatives={negatives}", *loss)
    job, recorder = trainer(config, tmp_path)
    job.run_pass(0)
    first = np.mean(recorder.losses)
    recorder.losses.clear()
    for _ in range(10):
        job.run_pass(1)
    assert np.mean(recorder.losses[-20:]) < first


# --- sequences -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("window", [5, 8])
def test_windows_have_every_target_once_and_enough_context(window: int, stride: int) -> None:
    lengths = [1, 2, 3, 0, 9, 23, 6]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    start, length, count = cut_windows(offsets, window, stride)
    targets = []
    for s, n, m in zip(start, length, count, strict=True):
        assert 1 <= m <= stride
        assert n <= window
        session = int(np.searchsorted(offsets, s, side="right")) - 1
        begin, end = offsets[session], offsets[session + 1]
        assert begin <= s
        assert s + n < end
        for t in range(s + n - m + 1, s + n + 1):
            targets.append(t)
            assert t - s >= min(t - begin, window - stride)
            if stride == 1:
                assert t - s == min(t - begin, window)  # RecBole's rows
    expected = [t for a, n in zip(offsets, lengths, strict=False) for t in range(a + 1, a + n)]
    assert sorted(targets) == expected


def test_the_loss_of_sequences_is_that_of_their_windows_read_one_by_one(tmp_path: Path) -> None:
    """One mini-batch with every window; states stepped through by hand from zero."""
    config = settings(
        "model=parallel",
        "batching=sequences",
        "window=4",
        "stride=2",
        "batch_size=500",
        "loss=cross_entropy",
        "negatives=full",
    )
    job, recorder = trainer(config, tmp_path)
    network, items = copy.deepcopy(job.network), torch.from_numpy(job.sessions.items).long()
    job.run_pass(0)
    losses = []
    for s, n, m in zip(*cut_windows(job.sessions.offsets, 4, 2), strict=True):
        state = network.begin(1)
        for t in range(s, s + n):
            with torch.no_grad():
                state = network.advance(items[t : t + 1], state)
                if t >= s + n - m:
                    scores = network.scores(state, slice(0, N))[0]
                    losses.append(-scores.log_softmax(0)[items[t + 1]].item())
    (ours,) = recorder.losses
    assert ours == pytest.approx(np.mean(losses), rel=1e-5)
