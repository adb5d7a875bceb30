"""A network as ONNX: one step of the state, the query of a state, and the scores of all items.

What the inputs make of an item depends on the item alone, so step.onnx has it as a table with a
row of gate inputs per item: features of any kind become a look-up, and only the recurrent layers
and the merge are translated.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from p_rnn.models.merges import Merge
from p_rnn.models.network import NetworkRanker, Subnet
from p_rnn.models.outputs import in_parts
from p_rnn.settings.errors import UserError

LIMIT = 1e-4  # largest difference from PyTorch, as a share of the largest value if that is above 1
EXTERNAL = 2**29  # bytes of weights from which they lie in a file of their own (ONNX ends at 2 GiB)
BATCHES = (1, 7, 3)  # sessions side by side in the check
STEPS = 5

log = logging.getLogger(__name__)


class Step(nn.Module):
    """(items int64 [B], *state) -> the state after one more item, as `PRNN.step`."""

    def __init__(self, ranker: NetworkRanker) -> None:
        super().__init__()
        self.parts = []
        self.layers = nn.ModuleList()
        for k, (subnet, at) in enumerate(ranker.network.active()):
            self.register_buffer(f"rows_{k}", gate_inputs(subnet))
            self.layers.append(subnet.layers)
            self.parts.append(at)

    def forward(self, items: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        new: list[Tensor] = []
        for k, (layers, at) in enumerate(zip(self.layers, self.parts, strict=True)):
            rows = getattr(self, f"rows_{k}")
            reads = (items >= 0) & (items < len(rows))
            after = layers(rows[torch.where(reads, items, 0)], state[at])
            new += [
                torch.where(reads[:, None], h, old) for h, old in zip(after, state[at], strict=True)
            ]
        return tuple(new)


class Query(nn.Module):
    """*state -> [B, D], as `NetworkRanker.queries`."""

    def __init__(self, ranker: NetworkRanker) -> None:
        super().__init__()
        merge = ranker.network.merge
        assert isinstance(merge, Merge)
        self.merge = copy.copy(merge)
        self.merge._modules = dict(merge._modules)
        self.merge.tables, self.merge.bias = nn.ModuleList(), None  # these stay behind
        self.biased = ranker.bias is not None
        active = ranker.network.active()
        self.tops = [at.start + subnet.layers.top for subnet, at in active]

    def forward(self, *state: Tensor) -> Tensor:
        queries = self.merge.queries([state[top] for top in self.tops])
        if self.biased:
            queries.append(torch.ones_like(queries[0][:, :1]))
        return torch.cat(queries, dim=1)


@torch.no_grad()
def gate_inputs(subnet: Subnet) -> Tensor:
    """[R, gates H] of all items that the subnet reads."""
    return torch.cat([subnet.gate_inputs(part) for part in in_parts(subnet.num_readable)])


def write_onnx(folder: Path, ranker: NetworkRanker) -> dict[str, Any]:
    """step.onnx, query.onnx, score.onnx and states.json, checked with onnxruntime.

    Returns:
        "checked": the largest difference from PyTorch; "opset"; "torch", "onnxruntime": versions.

    Raises:
        UserError: the files compute something else than the network.
    """
    ranker.network.eval()
    states = describe_states(ranker)
    (folder / "states.json").write_text(
        json.dumps({"dtype": "float32", "initial": 0, "states": states}, indent=2) + "\n",
        encoding="utf-8",
    )
    before = [each["input"] for each in states]
    after = [each["output"] for each in states]
    zeros = ranker.begin(2)
    items = torch.zeros(2, dtype=torch.int64)
    opset = translate(
        Step(ranker), (items, *zeros), folder / "step.onnx", ["items", *before], after
    )
    translate(Query(ranker), zeros, folder / "query.onnx", before, ["query"])
    write_score(folder, ranker)
    difference = largest_difference(folder, ranker, before)
    log.info("ONNX checked with onnxruntime: largest difference from PyTorch %.1e", difference)
    versions = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
    return {"checked": difference, "opset": opset, **versions}


def describe_states(ranker: NetworkRanker) -> list[dict[str, Any]]:
    """For each tensor of the state its names as input and output, width, subnet and layer."""
    network = ranker.network
    found: list[dict[str, Any]] = []
    for name, (subnet, _) in zip(network.names, network.active(), strict=False):
        for layer, cell in enumerate(subnet.layers.cells):
            for part, width in enumerate(cell.state_widths):  # type: ignore[arg-type]
                k = len(found)
                names = {"input": f"state_{k}", "output": f"new_state_{k}", "width": width}
                found.append({**names, "subnet": name, "layer": layer, "part": part})
    return found


def translate(
    module: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> int:
    """Write a module, whose inputs all begin with the dimension B; returns the opset."""
    batch = {0: torch.export.Dim("batch")}
    named = len(inputs) - sum(each.startswith("state_") for each in inputs)  # before *state
    shapes = (*(batch for _ in inputs[:named]), tuple(batch for _ in inputs[named:]))
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=list(inputs),
            output_names=list(outputs),
            verbose=False,
        )
        assert program is not None
        for node in program.model.graph:
            node.metadata_props.clear()  # where the code lies on this machine
        tensors = [*module.parameters(), *module.buffers()]
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        program.save(str(path), external_data=size > EXTERNAL)
        return int(program.model.opset_imports[""])


def write_score(folder: Path, ranker: NetworkRanker) -> None:
    """score.onnx: query.onnx times the matrix of items."""
    model = onnx.load(folder / "query.onnx")
    matrix = np.ascontiguousarray(ranker.vectors().numpy().T)
    items = onnx.TensorProto(name="items", data_type=onnx.TensorProto.FLOAT, dims=matrix.shape)
    if matrix.nbytes > EXTERNAL:
        matrix.tofile(folder / "score.onnx.data")
        items.data_location = onnx.TensorProto.EXTERNAL
        items.external_data.add(key="location", value="score.onnx.data")
    else:
        items.raw_data = matrix.tobytes()
    shape: list[str | int | None] = ["batch", ranker.num_items]
    scores = onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, shape)
    graph = model.graph
    graph.initializer.append(items)
    graph.node.append(onnx.helper.make_node("MatMul", ["query", "items"], ["scores"]))
    del graph.output[:]
    graph.output.append(scores)
    onnx.save(model, folder / "score.onnx")


@contextmanager
def quiet() -> Iterator[None]:
    """Without the notices of PyTorch's exporter about what it does not need."""
    names = ("torch.onnx", "onnxscript", "onnx_ir")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for name in names:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


# --- the check ----------------------------------------------------------------------------------


def largest_difference(folder: Path, ranker: NetworkRanker, names: Sequence[str]) -> float:
    """Between onnxruntime and PyTorch, of states, queries and scores in random sessions.

    Some of the items are unknown, and some are read by a part of the subnets only.

    Raises:
        UserError: it is above the limit.
    """
    step, query, score = (session(folder / f"{each}.onnx") for each in ("step", "query", "score"))
    rng = np.random.default_rng(0)
    worst = 0.0
    for batch in BATCHES:
        state = ranker.begin(batch)
        mine = [part.numpy() for part in state]
        for _ in range(STEPS):
            items = rng.integers(-1, ranker.num_readable + 1, batch)
            active = torch.from_numpy(items >= 0)
            state = ranker.step(torch.from_numpy(items), state, active)
            mine = step.run(None, {"items": items, **dict(zip(names, mine, strict=True))})
            given = dict(zip(names, mine, strict=True))
            pairs = [
                *zip(mine, state, strict=True),
                (query.run(None, given)[0], ranker.queries(state)),
                (score.run(None, given)[0], ranker.scores(state, slice(0, ranker.num_items))),
            ]
            worst = max(worst, *(_difference(found, wanted) for found, wanted in pairs))
    if not worst <= LIMIT:
        raise UserError(
            f"the ONNX files differ from PyTorch by {worst:.1e}, more than {LIMIT:g}; nothing is "
            "exported (are PyTorch, onnxscript and onnxruntime the versions of constraints.txt?)"
        )
    return worst


def session(path: Path) -> Any:
    """An ONNX file in onnxruntime, on the CPU and as many threads as PyTorch."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _difference(found: Any, wanted: Tensor) -> float:
    expected = wanted.numpy()
    if found.shape != expected.shape:
        return float("inf")
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
