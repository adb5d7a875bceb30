"""Plans against sums over the reads in a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from p_rnn.models import inputs
from p_rnn.models.inputs import PooledRows
from p_rnn.models.plans import Bags, RowPlan, plan_bags, plan_of_reads, plan_rows
from p_rnn.models.table import Table
from tests.worlds import BAGS, N, V, bag

D = 4


def of_step(plan: RowPlan, t: int) -> RowPlan:
    return RowPlan(*(x[t] for x in plan.tensors()))


@pytest.mark.parametrize("num_rows", [9, 2**33])  # keys of 32 and of 64 bits
@pytest.mark.parametrize("reads", [1, 2, 3, 16, 17, 50])
def test_each_row_once_with_the_sum_of_its_reads(num_rows: int, reads: int) -> None:
    rng = np.random.default_rng(reads)
    steps = 5
    index = rng.integers(0, 9, (steps, reads)) * (num_rows // 9)
    index[0] = index[0, 0]  # a step that reads one row over and over
    plan = plan_rows(torch.from_numpy(index), num_rows)
    for t in range(steps):
        gradient = rng.normal(size=(reads, D))
        wanted = {int(i): gradient[index[t] == i].sum(axis=0) for i in set(index[t].tolist())}
        one = of_step(plan, t)
        sums = one.sums(torch.from_numpy(gradient)).numpy()
        count = len(wanted)
        assert one.rows[:count].tolist() == sorted(wanted)
        assert (one.rows[count:] == num_rows).all()
        assert (sums[count:] == 0).all()
        for row, found in zip(one.rows[:count].tolist(), sums, strict=False):
            np.testing.assert_allclose(found, wanted[row], rtol=1e-12)


def test_the_reads_of_a_row_are_summed_in_their_order() -> None:
    """Whatever threads do, so that runs repeat to the last bit."""
    plan = plan_rows(torch.tensor([[3, 1, 3, 3, 1]]), 5)
    assert plan.order.tolist() == [[1, 4, 0, 2, 3]]
    assert plan.starts.tolist() == [[0, 2, 5, 5, 5]]
    gradient = torch.tensor([1e8, 1.0, -1e8, 0.5, 2.0])
    assert of_step(plan, 0).sums(gradient).tolist()[:2] == [3.0, 0.5]


def test_a_plan_of_scalars() -> None:
    plan = plan_rows(torch.tensor([[2, 0, 2]]), 4)
    assert of_step(plan, 0).sums(torch.tensor([1.0, 10.0, 100.0])).tolist() == [10.0, 101.0, 0.0]


def test_bags_with_weights_and_padding() -> None:
    """The gradient of a row is the sum over the bags that hold it, times its weight in them."""
    rows = torch.tensor([[4, 0, 2, 0, 6, 6]])  # 6 rows: the last two are padding
    weights = torch.tensor([[1.0, 2.0, 3.0, 4.0, 0.0, 0.0]])
    bags = Bags(rows, weights, torch.tensor([[0, 2, 2]]), torch.tensor([[0, 0, 2, 2, 3, 3]]))
    plan = of_step(plan_bags(bags, 6), 0)
    gradient = torch.tensor([[1.0], [50.0], [100.0]])
    found = dict(zip(plan.rows.tolist(), plan.sums(gradient)[:, 0].tolist(), strict=True))
    assert found == {0: 2.0 + 400.0, 2: 300.0, 4: 1.0, 6: 0.0}


def test_a_table_sums_what_several_reads_ask_for() -> None:
    table = Table(5, D).double()
    first, second = torch.tensor([4, 1, 4]), torch.tensor([1, 0])
    a, b = table.rows(first), table.rows(second)
    (a.sum() + 10 * b.sum()).backward()
    taken = table.take_gradient()
    assert taken is not None
    assert taken.rows is not None
    assert taken.rows.tolist() == [0, 1, 4]  # without padding, where the plan is made on the spot
    assert taken.values[:, 0].tolist() == [10.0, 11.0, 2.0]
    again = table.rows(first)
    again.sum().backward()
    ahead = of_step(plan_rows(first[None], 5), 0)
    taken = table.take_gradient(ahead)
    assert taken is not None
    assert taken.rows is not None
    assert taken.rows.tolist() == [1, 4, 5]


def test_the_storage_moves_with_the_weights() -> None:
    table = Table(3, 2)
    table.weight.copy_(torch.arange(6.0).view(3, 2))
    assert table.storage[:3].tolist() == table.weight.tolist()
    table = table.double()
    table.weight[1] = 7
    assert table.storage.dtype == torch.float64
    assert table.storage[1].tolist() == [7, 7]
    table.load_state_dict({"weight": torch.ones(3, 2)})
    assert table.storage.tolist() == [[1, 1]] * 3 + [[0, 0]]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_made_ahead_are_those_made_on_the_spot(
    mode: str, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padded or not: the same pooled rows and the same gradients, those of a plain loop."""
    monkeypatch.setattr(inputs, "MARGIN", 3.0)
    feature, table = bag(weighted=weighted), Table(V, D)
    table.weight.normal_(generator=torch.Generator().manual_seed(0))
    view = PooledRows(feature, table, mode, torch.device("cpu"))
    items = torch.tensor([[0, 2, 11, 3], [4, 4, 9, 2], [2, 9, 2, 9]])
    made = view.ahead(items)
    assert made[0].shape[1] == view.capacity  # room beyond the tokens of any step
    for t in range(3):
        view.now = ()
        spot = view(items[t])
        taken = spot.square().sum().backward() or table.take_gradient()
        view.now = tuple(x[t] for x in made)
        ahead = view(items[t])
        again = ahead.square().sum().backward() or table.take_gradient()
        view.now = ()
        torch.testing.assert_close(ahead, spot)
        wanted = pooled(feature, table.weight.numpy(), items[t].tolist(), mode)
        np.testing.assert_allclose(spot.detach(), wanted, rtol=1e-5, atol=1e-6)
        for one in (taken, again):
            assert one is not None
            assert one.rows is not None
        full = [torch.zeros(V + 1, D).index_add_(0, x.rows, x.values) for x in (taken, again)]
        torch.testing.assert_close(full[0], full[1])
        assert (full[1][V] == 0).all()


def pooled(feature, weight, items, mode) -> np.ndarray:  # type: ignore[no-untyped-def]
    result = np.zeros((len(items), D))
    for k, item in enumerate(items):
        lo, hi = feature.offsets[item], feature.offsets[item + 1]
        assert feature.tokens[lo:hi].tolist() == BAGS[item]
        u = np.ones(hi - lo) if feature.weights is None else feature.weights[lo:hi]
        rows = weight[BAGS[item]] * u[:, None]
        if hi > lo:
            values = {"sum": rows.sum(0), "mean": rows.sum(0) / u.sum(), "max": rows.max(0)}
            result[k] = values[mode]
    return result


def test_a_plan_on_the_spot_of_one_read_of_bags() -> None:
    rows = torch.tensor([1, 1])
    bags = Bags(rows, torch.ones(2), torch.tensor([0, 1]), torch.tensor([0, 1]))
    plan = plan_of_reads([bags], N)
    assert plan.rows.tolist() == [1]
    assert plan.sums(torch.tensor([[1.0], [2.0]])).tolist() == [[3.0]]
