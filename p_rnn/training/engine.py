"""Engines: an update as it stands, compiled, or captured in a CUDA graph.

Steps of this family are small: what they cost is the launch of their operations and traffic to
memory. A compiled step fuses the operations between matrix products (PyTorch's Inductor); a CUDA
graph launches all of them at once. Either is made from the very code that runs otherwise, for the
shapes of a full mini-batch; the shrinking end of a pass and steps with bags of unusual size run as
they stand.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from p_rnn.config import Config
from p_rnn.errors import UserError
from p_rnn.models.merges import Learners
from p_rnn.models.network import State
from p_rnn.native import compiler
from p_rnn.training.feeds import Layout, Step
from p_rnn.training.fused import KEPT
from p_rnn.training.update import Done, Update

log = logging.getLogger(__name__)

# Compiling takes 5 to 25 s on a CPU, the longer the first time on a machine. It saves about 1 ms of
# an update, and 4 ns for each score where the loss is not compiled anyway (scripts/benchmark.py);
# it pays after so many seconds saved.
WORTH_COMPILING_S = 20.0
SAVED_S = 1e-3
SAVED_PER_SCORE_S = 4e-9

Function = Callable[..., Sequence[Tensor]]  # of tensors and states: loss, states


class Engine:
    """Runs updates in the way that `compile` says.

    Args:
        expected: about how many updates of full mini-batches the run has, by who learns in them.
    """

    def __init__(self, update: Update, config: Config, expected: Mapping[Learners, int]) -> None:
        self.update, self.expected = update, expected
        self.how = config.compile
        self.made: dict[tuple[Learners, int], _Static | None] = {}
        if self.how == "graph" and update.network.device.type != "cuda":
            raise UserError("compile=graph needs a GPU; take compile=auto")
        if config.batching == "sequences":
            if self.how not in ("auto", "never"):
                raise UserError(
                    f"compile={self.how} has no effect: with batching=sequences every mini-batch "
                    "has shapes of its own; leave it out"
                )
            self.how = "never"

    def __call__(self, step: Step, state: State, learners: Learners, measure: bool) -> Done:
        """One update; with `measure` as it stands, because only so it gives the gradient's norm."""
        if step.layout.full and self.how != "never" and not measure:
            static = self._static(step, state, learners)
            if static is not None and static.fits(step):
                loss, *after = static(*step.tensors, *state)
                return Done(loss, tuple(after))
        return self.update(step, state, learners, measure)

    def _static(self, step: Step, state: State, learners: Learners) -> _Static | None:
        key = learners, self.update.network.in_score
        if key not in self.made:
            self.made[key] = self._make(step, state, learners)
        return self.made[key]

    def _make(self, step: Step, state: State, learners: Learners) -> _Static | None:
        """None where it would not pay or, with auto, cannot be done."""
        device = self.update.network.device
        how = self.how
        if how == "auto":
            how = "graph" if device.type == "cuda" else "always"
            if how == "always" and not self._worth(step, learners):
                return None
        function = _as_function(self.update, step.layout, len(step.tensors), learners)
        inputs = [*step.tensors, *state]
        try:
            if how == "always":
                function = _compile(function, inputs)
            if device.type == "cuda":
                function = _capture(function, inputs, self.update)
        except Exception as error:  # whatever a compiler, its back end or the driver may raise
            if self.how != "auto":
                raise UserError(f"compile={self.how} failed: {_first_line(error)}") from error
            log.warning("compiling the step failed, so it runs as it stands: %s",
                        _first_line(error))  # fmt: skip
            return None
        return _Static(function, step)

    def _worth(self, step: Step, learners: Learners) -> bool:
        """Whether the run is long enough; from the settings alone, so that runs repeat."""
        items = step.part("items")
        columns = items[0].shape[-1] if items else self.update.network.num_items
        saved = SAVED_S
        if self.update.config.loss.name not in KEPT:
            saved += SAVED_PER_SCORE_S * step.count * columns
        worth = self.expected.get(learners, 0) * saved > WORTH_COMPILING_S
        return worth and compiler() is not None


class _Static:
    """A function for steps of the shapes of one step."""

    def __init__(self, function: Function, step: Step) -> None:
        self.function = function
        self.shapes = [x.shape for x in step.tensors]
        self.layout: Layout = step.layout

    def fits(self, step: Step) -> bool:
        if step.layout is self.layout:
            return True
        if [x.shape for x in step.tensors] != self.shapes:
            return False
        self.layout = step.layout  # steps of one layout have the same shapes
        return True

    def __call__(self, *tensors: Tensor) -> Sequence[Tensor]:
        return self.function(*tensors)


def _as_function(update: Update, layout: Layout, count: int, learners: Learners) -> Function:
    """An update as a function of tensors, the last of which are states."""

    def function(*tensors: Tensor) -> list[Tensor]:
        step = Step(len(tensors[0]), layout, tensors[:count])
        with torch.enable_grad():
            done = update(step, tensors[count:], learners, False)
        return [done.loss, *done.state]

    return function


def _compile(function: Function, inputs: Sequence[Tensor]) -> Function:
    """Trace without running, forward, backward and optimizer in one graph, and compile that."""
    started = time.perf_counter()
    # The weights and the optimizer's slots become constants of the graph, which it changes.
    graph = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*inputs)
    with torch.no_grad():
        # Shapes are compared once per layout (`_Static.fits`), not at every step.
        # Patterns would turn a product and the addition of a bias into one call that first copies
        # the bias into every row of the scores.
        options = {"size_asserts": False, "pattern_matcher": False}
        compiled = torch._inductor.compile(graph, list(inputs), options=options)
    log.info("compiled the step in %.0f s", time.perf_counter() - started)

    def run(*tensors: Tensor) -> Sequence[Tensor]:
        with torch.no_grad():
            outputs: Sequence[Tensor] = compiled(*tensors)
        return outputs

    return run


def _capture(function: Function, inputs: Sequence[Tensor], update: Update) -> Function:
    """Capture a function in a CUDA graph whose inputs are fixed buffers.

    Warming up runs the function; the weights and the optimizer are put back afterwards.
    """
    buffers = [x.clone() for x in inputs]
    kept = _snapshot(update)
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function(*buffers)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = function(*buffers)
    for target, value in kept:
        target.copy_(value)

    def run(*tensors: Tensor) -> Sequence[Tensor]:
        torch._foreach_copy_(buffers, list(tensors))
        graph.replay()
        return [x.clone() for x in outputs]  # the next replay overwrites them

    return run


def _snapshot(update: Update) -> list[tuple[Tensor, Tensor]]:
    """Everything that an update changes, each with a copy on the CPU."""
    optimizer = update.optimizer
    tensors = [p.detach() for p in optimizer.dense.values()]
    tensors += [table.storage for table in optimizer.tables.values()]
    tensors += [x for slots in optimizer.slots.values() for x in slots.values()]
    tensors.append(optimizer.counts)
    return [(x, x.cpu() if x.is_cuda else x.clone()) for x in tensors]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
