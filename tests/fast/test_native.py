"""The compiled functions against loops in NumPy, and the library that holds them."""

from __future__ import annotations

import ctypes
import os
import platform
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from p_rnn.fast import native
from p_rnn.fast.native import functions, tape
from p_rnn.fast.native.moves import RowsRead, Rule, move_rows, move_whole
from p_rnn.models.dropout import Dropout

N, R = 40, 25
RULES = {
    "adagrad": Rule("adagrad", lr=0.05, momentum=0.0, eps=1e-6),
    "momentum": Rule("adagrad", lr=0.05, momentum=0.3, eps=1e-6),
    "adam": Rule("adam", 0.05, 0.0, 1e-8, 0.1, 0.001, correction=1 / (1 - 0.999**2), decay=0.2),
    "adamw": Rule("adam", 0.05, 0.0, 1e-3, 0.2, 0.01, correction=1 / (1 - 0.99**7), shrink=0.9),
}

pytestmark = pytest.mark.skipif(
    native.library() is None, reason="no C++ compiler: compiled functions are not tested"
)
# Vectors of the CPU, or of 8 numbers although it has longer ones.
BUILDS = [(), ("-mno-avx512f",)] if platform.machine() in ("x86_64", "AMD64") else [()]


@pytest.fixture(params=BUILDS, ids=" ".join)
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param:
        monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, *request.param))
        native.library.cache_clear()
        tape._address.cache_clear()
    yield
    if request.param:
        native.library.cache_clear()
        tape._address.cache_clear()


@pytest.fixture(params=[1, 3, 8])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng([seed, *shape]).normal(size=shape)).float()


# --- products and the like ----------------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 3, 8, 9, 33, 130])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (7, 5), (16, 3), (48, 17), (100, 300), (300, 100)])
def test_products(m: int, n: int, k: int, build: None, threads: int) -> None:
    a, b = normal(m, k), normal(k, n, seed=1)
    wanted = a.double() @ b.double()
    atol = 1e-5 * k**0.5
    np.testing.assert_allclose(functions.product(a, b), wanted, rtol=1e-4, atol=atol)
    across = a.t().contiguous().t()  # stored column by column
    np.testing.assert_allclose(functions.product(across, b), wanted, rtol=1e-4, atol=atol)
    found = functions.product(a, b.t().contiguous(), turned=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=atol)


def test_products_of_columns(build: None, threads: int) -> None:
    for m in (3, 40):  # dots, and a transposed copy
        wide, b, into = normal(m, 60), normal(20, 70, seed=1), torch.zeros(m, 50)
        a, right = wide[:, 10:30], b[:, 5:38]
        found = functions.product(a, right, to=into[:, 2:35])
        np.testing.assert_allclose(found, a.double() @ right.double(), rtol=1e-4, atol=1e-4)
        assert not into[:, :2].any()
        assert not into[:, 35:].any()
        turned = functions.product(a, b[:, 30:50], turned=True, to=into[:, 7:27])
        np.testing.assert_allclose(turned, a.double() @ b[:, 30:50].t().double(), 1e-4, 1e-4)


def test_rows_bags_and_elements(build: None, threads: int) -> None:
    table, items = normal(N, 7), torch.tensor([3, 0, 39, 3])
    assert torch.equal(functions.gather(table, items), table[items])
    offsets = torch.tensor([0, 2, 2, 5])
    tokens, scale = torch.tensor([4, 1, 9, 9, 0]), torch.tensor([0.5, 2, 1, 1, 3])
    bags = [[(4, 0.5), (1, 2.0)], [], [(9, 1.0), (9, 1.0), (0, 3.0)]]
    found = functions.pool(table, torch.tensor([2, 1, 0, 2]), (offsets, tokens, scale))
    for k, item in enumerate((2, 1, 0, 2)):
        wanted = sum((w * table[t] for t, w in bags[item]), torch.zeros(7))
        torch.testing.assert_close(found[k], wanted)
    twice = functions.pool(
        table, torch.tensor([2, 1, 0, 2]), (offsets, tokens, scale), found.clone()
    )
    torch.testing.assert_close(twice, 2 * found)
    x, y = normal(5, 9), normal(5, 9, seed=1)
    torch.testing.assert_close(functions.times(x, y, 0.5), 0.5 * x * y)
    torch.testing.assert_close(functions.times(x, scale=2.0), 2 * x)
    total = y.clone()
    assert functions.times(x, to=total) is total
    torch.testing.assert_close(total, x + y)


def test_offsets_of_scores() -> None:
    bias, support, items = normal(N, 1), normal(N, seed=1), torch.tensor([3, 0, 5, 3, 7])
    log_q = torch.cat([support[items[:2]], 0.75 * support[items[2:]]])
    for b, s in ((bias, support), (None, support), (bias, None)):
        found = functions.offset(b, s, items, 2, 0.5, 0.75, 5, bias)
        wanted = (0 if b is None else bias[items, 0]) - (0 if s is None else 0.5 * log_q)
        torch.testing.assert_close(found, wanted)
    whole = functions.offset(bias, None, None, 2, 0.0, 0.0, N, bias)
    torch.testing.assert_close(whole, bias[:, 0])


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_masks_are_those_of_the_plain_dropout(p: float) -> None:
    one, other = (Dropout(p, torch.Generator().manual_seed(3)) for _ in range(2))
    for shape in ((3, 7), (5, 8), (1, 1)):
        like = torch.empty(shape)
        plain = one.mask(*shape, like=like)
        compiled = functions.mask(other, like)
        assert plain is not None
        assert compiled is not None
        assert torch.equal(plain, compiled)
    assert functions.mask(one.eval(), like) is None


@pytest.mark.parametrize("size", [1, 5, 16, 100])
@pytest.mark.parametrize("masked", [False, True])
def test_gates_follow_the_equations_and_so_do_gradients(
    size: int, masked: bool, build: None, threads: int
) -> None:
    batch, a, u, h = 37, normal(37, 3 * size), normal(37, 3 * size, seed=1), normal(37, size)
    c, d, mask = normal(3 * size), normal(3 * size, seed=2), normal(batch, size, seed=3)
    inputs = [x.double().requires_grad_() for x in (a, u, c, d)]
    gates = [
        x + y
        for x, y in zip(
            (inputs[0] + inputs[3]).chunk(3, 1), (inputs[1] + inputs[2]).chunk(3, 1), strict=True
        )
    ]
    r, z = torch.sigmoid(gates[0]), torch.sigmoid(gates[1])
    acted = (inputs[1] + inputs[2])[:, 2 * size :]
    n = torch.tanh((inputs[0] + inputs[3])[:, 2 * size :] + r * acted)
    new = (1 - z) * n + z * h.double()
    new = new * mask.double() if masked else new
    values = functions.gates_forward(a, u, c, d, h, mask if masked else None)
    np.testing.assert_allclose(values.output, new.detach(), rtol=1e-4, atol=1e-5)
    gradient = normal(batch, size, seed=4)
    wanted = torch.autograd.grad(new, inputs, gradient.double())
    found = functions.gates_backward(values, gradient)
    for x, w in zip(found, (wanted[0], wanted[1], wanted[3], wanted[2]), strict=True):
        np.testing.assert_allclose(x, w, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("size", [1, 5, 16, 100])
@pytest.mark.parametrize("masked", [False, True])
def test_gates_with_reset_before(size: int, masked: bool, build: None, threads: int) -> None:
    a, h, c = normal(37, 3 * size), normal(37, size), normal(3 * size)
    recurrent = normal(size, 3 * size, seed=2) / size**0.5
    mask = normal(37, size, seed=3) if masked else None
    inputs = [x.double().requires_grad_() for x in (a, recurrent, c)]
    x, weight, bias = (each.chunk(3, dim=1) for each in (inputs[0], inputs[1], inputs[2][None]))
    old = h.double()
    r, z = (torch.sigmoid(x[k] + old @ weight[k] + bias[k]) for k in (0, 1))
    n = torch.tanh(x[2] + (r * old) @ weight[2] + bias[2])
    new = (1 - z) * n + z * old
    new = new if mask is None else new * mask.double()
    values = functions.before_forward(a, recurrent, c, h, mask)
    np.testing.assert_allclose(values.output, new.detach(), rtol=1e-4, atol=1e-5)
    gradient = normal(37, size, seed=4)
    wanted = torch.autograd.grad(new, inputs, gradient.double())
    for found, right in zip(
        functions.before_backward(values, recurrent, gradient), wanted, strict=True
    ):
        np.testing.assert_allclose(found, right, rtol=1e-3, atol=3e-5)


# --- Adagrad ------------------------------------------------------------------------------------


def by_hand(
    moved: list[Tensor | None], reads: list[tuple[int, float, Tensor]], rule: Rule
) -> list[np.ndarray]:
    """Each row's gradients are summed, and the row is moved, in double precision."""
    weight, first, second = (np.zeros(0) if x is None else x.double().numpy().copy() for x in moved)
    gradients: dict[int, np.ndarray] = {}
    for row, scale, x in reads:
        gradients[row] = gradients.get(row, 0) + scale * x.double().numpy()
    for row, g in gradients.items():
        if rule.name == "adagrad":
            first[row] += g**2
            change = -rule.lr * g / np.sqrt(first[row] + rule.eps)
            if len(second):
                change = second[row] = rule.momentum * second[row] + change
        else:
            weight[row] *= rule.shrink
            g = g + rule.decay * weight[row]
            first[row] = (1 - rule.mean_rate) * first[row] + rule.mean_rate * g
            second[row] = (1 - rule.square_rate) * second[row] + rule.square_rate * g**2
            root = np.sqrt(second[row] * rule.correction) + rule.eps
            change = -rule.lr * first[row] / root
        weight[row] += change
    return [weight, first, second]


def before(rule: Rule, *shape: int) -> list[Tensor | None]:
    """A weight and its slots; sums of squares are not negative."""
    moved: list[Tensor | None] = [normal(*shape, seed=k) for k in range(3)]
    square = 2 if rule.name == "adam" else 1
    moved[square] = normal(*shape, seed=square).abs()
    if rule.name == "adagrad" and not rule.momentum:
        moved[2] = None
    return moved


def check(moved: list[Tensor | None], wanted: list[np.ndarray]) -> None:
    for x, y in zip(moved, wanted, strict=True):
        if x is not None:
            np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("width", [1, 7, 100, 1000])
def test_rows_that_are_read_once_or_more(width: int, rule: Rule, build: None, threads: int) -> None:
    moved = before(rule, N, width)
    slots = torch.full((N,), -1, dtype=torch.int32)
    for t in range(3):
        index = torch.from_numpy(np.random.default_rng(t).integers(0, N // 3, R))
        source = normal(R, width, seed=9 + t)
        reads = [(int(row), 1.0, x) for row, x in zip(index, source, strict=True)]
        wanted = by_hand(moved, reads, rule)
        parts = [RowsRead(index[lo:hi], source[lo:hi]) for lo, hi in ((0, 4), (4, 5), (5, R))]
        move_rows(tuple(moved), parts, slots, rule)  # type: ignore[arg-type]
        check(moved, wanted)
        assert (slots == -1).all()


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_rows_that_are_read_in_bags(rule: Rule, build: None, threads: int) -> None:
    offsets = torch.tensor([0, 3, 3, 8, 10])
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, N, 10))
    tokens[4] = tokens[1]
    scale, items = torch.rand(10), torch.tensor([2, 0, 1, 2, 3])
    source, other = normal(5, 6), normal(2, 6, seed=1)
    moved = before(rule, N, 6)
    reads = [
        (int(tokens[t]), float(scale[t]), source[j])
        for j, item in enumerate(items.tolist())
        for t in range(int(offsets[item]), int(offsets[item + 1]))
    ]
    more = torch.tensor([int(tokens[1]), 7])
    reads += [(int(row), 1.0, x) for row, x in zip(more, other, strict=True)]
    wanted = by_hand(moved, reads, rule)
    parts = [RowsRead(items, source, (offsets, tokens, scale)), RowsRead(more, other)]
    slots = torch.full((N,), -1, dtype=torch.int32)
    move_rows(tuple(moved), parts, slots, rule)  # type: ignore[arg-type]
    check(moved, wanted)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_whole_parameters(rule: Rule, build: None, threads: int) -> None:
    pairs, expected = [], []
    for size in (1, 30, 5000):
        moved, gradient = before(rule, size, 3), normal(size, 3, seed=7)
        expected.append(by_hand(moved, [(k, 1.0, gradient[k]) for k in range(size)], rule))
        pairs.append((tuple(moved), gradient))
    move_whole(pairs, rule)  # type: ignore[arg-type]
    for (moved, _), wanted in zip(pairs, expected, strict=True):
        check(list(moved), wanted)


# --- denormals, counts, the library ---------------------------------------------------------------


def bits(x: Tensor) -> set[int]:
    """Of its numbers; a comparison might take denormals for zero."""
    return set(x.flatten().view(torch.int32).tolist())


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="set on x86 alone")
def test_denormals_are_zero_in_every_thread_and_afterwards_as_before(threads: int) -> None:
    torch.set_flush_denormal(False)
    tiny = torch.full((2**20,), 1e-30)
    before = (tiny * 1e-10).view(torch.int32)  # as the threads are that earlier tests have made
    rows, acc = torch.arange(1000), torch.zeros(1000, 100)
    gradient = torch.full((1000, 100), 1e-20)  # whose square is 1e-40
    slots = torch.full((1000,), -1, dtype=torch.int32)
    moved = (torch.zeros(1000, 100), acc, None)
    move_rows(moved, [RowsRead(rows, gradient)], slots, RULES["adagrad"])
    assert bits(acc) == {0}
    # A score of -100 counts as one of -87: 64 slopes of e^-87 / 2 = 8e-39, whose sum is 5e-37.
    bias = torch.full((1000,), -100.0)
    bias[0] = 0.0
    _, _, _, of_bias = functions.loss(
        "cross_entropy",
        [torch.zeros(64, 4)],
        [torch.zeros(1000, 4)],
        None,
        bias,
        torch.zeros(64, dtype=torch.int64),
        [0.0, 0.0],
        0.5,
        [True],
    )
    assert of_bias is not None
    assert bits(of_bias[1:]) == {0}
    assert torch.equal((tiny * 1e-10).view(torch.int32), before)


@pytest.mark.parametrize("shape", [(3, 5), (300, 700)])
def test_counts(shape: tuple[int, int], threads: int) -> None:
    rng = torch.Generator().manual_seed(0)
    at_least, above = torch.zeros(2, shape[0], dtype=torch.int64).unbind(0)
    bad = torch.zeros(1, dtype=torch.int64)
    wanted = np.zeros((2, shape[0]), dtype=np.int64)
    own = torch.randint(5, (shape[0], 1), generator=rng).float()
    for _ in range(2):  # counts are added up
        block = torch.randint(5, shape, generator=rng).float()  # many ties
        functions.count_scores(block, own, at_least, above, bad)
        wanted += [(block >= own).sum(dim=1).numpy(), (block > own).sum(dim=1).numpy()]
    np.testing.assert_array_equal(torch.stack([at_least, above]), wanted)
    assert bad.item() == 0
    block[0, 1], block[2, 3], block[-1, 0] = float("nan"), float("inf"), float("-inf")
    functions.count_scores(block, own, at_least, above, bad)
    assert bad.item() == 3


def hollow_sources(folder: Path) -> Path:
    """Functions of the library's names that do nothing, and its sizes; compiled in no time."""
    folder.mkdir()
    empty = [f"void {name}(void*) {{}}" for name in native.FUNCTIONS]
    empty += ["void replay(void*, long long, long long) {}"]
    empty += [
        f"long long {name}({', '.join(['long long'] * n)}) {{ return 0; }}"
        for name, n in native.COUNTS.items()
    ]
    sizes = [
        f"long long size_of_{name}() {{ return {ctypes.sizeof(struct)}; }}"
        for name, struct in native.SIZES.items()
    ]
    for name, lines in (("functions", empty), ("sizes", sizes)):
        text = "\n".join(f'extern "C" {line}' for line in lines)
        (folder / f"{name}.cpp").write_text(text + "\n")
    return folder


def test_compiled_once_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    run = native._run
    monkeypatch.setattr(native, "HERE", hollow_sources(tmp_path / "sources"))
    monkeypatch.setattr(native, "_run", lambda c: runs.append("-c" if "-c" in c else "") or run(c))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build = native.library.__wrapped__
    assert build() is not None
    (kept,) = (tmp_path / "p_rnn").iterdir()
    compiled = runs.count("-c")
    assert build() is not None
    assert runs.count("-c") == compiled == 2
    damaged = tmp_path / "other" / "p_rnn" / kept.name
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(kept.read_bytes()[:-100])  # cut; loading it may end the process
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert build() is not None
    assert runs.count("-c") == 2 * compiled
    (written,) = damaged.parent.iterdir()  # the damaged one has gone
    written.chmod(0o666)  # others may have written it
    assert build() is not None
    assert runs.count("-c") == 3 * compiled
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-O0"))  # another library
    assert build() is not None
    assert len(list(damaged.parent.iterdir())) == 2
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept))  # no folder
    assert build() is not None
    monkeypatch.chdir(tmp_path)
    for place in ("relative", ""):  # nothing is kept where it would be found by chance
        monkeypatch.setenv("XDG_CACHE_HOME", place)
        monkeypatch.setenv("HOME", "~")
        assert build() is not None
    assert {path.name for path in tmp_path.iterdir()} == {"sources", "p_rnn", "other"}


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no users here")
def test_the_cache_is_of_this_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = native.private_folder()
    assert folder == tmp_path / "p_rnn"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    assert native.private_folder() == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    tmp_path.chmod(0o777)  # anybody may put another folder in its place
    assert native.private_folder() is None
    tmp_path.chmod(0o1777)  # as /tmp
    assert native.private_folder() == folder
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)  # somebody else's
    assert native.private_folder() is None
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "link"))
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "p_rnn").symlink_to(tmp_path / "p_rnn")
    assert native.private_folder() is None


def test_a_library_of_other_sizes_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    longer = type("Gates", (ctypes.Structure,), {"_fields_": [("x", ctypes.c_int64)] * 1})
    monkeypatch.setitem(native.SIZES, "gates", longer)
    with pytest.raises(OSError, match=r"Gates has .* bytes there, 8 here"):
        native._declared(native.loaded())


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    build = native.library.__wrapped__
    monkeypatch.setattr(native, "compiler", lambda: None)
    assert build() is None
    monkeypatch.setattr(native, "compiler", lambda: "false")  # one that fails
    assert build() is None
