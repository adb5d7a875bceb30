"""Entry point of the fast steps: which routes serve a network, and which is the fastest."""

from __future__ import annotations

import copy
import logging
import statistics
import time
from collections.abc import Callable, Mapping

from p_rnn import distributed
from p_rnn.batches import Batch
from p_rnn.fast import native, routes
from p_rnn.fast.gpu import GraphUpdate, compiled_update
from p_rnn.fast.update import FastUpdate, why_not
from p_rnn.models.cells import State
from p_rnn.models.network import Learners
from p_rnn.settings.errors import UserError
from p_rnn.training.step import Update, UpdateResult

log = logging.getLogger(__name__)

Make = Callable[[Update], Callable[..., UpdateResult]]

# Routes are measured in runs of at least this many updates; measuring takes about a hundred.
WORTH_MEASURING = 2000
WARM_UP, ROUNDS, STEPS = 8, 5, 8


class Fast:
    """Runs updates on the chosen route, or plain where the route does not serve a mini-batch.

    Args:
        how: the setting `compile`.
        updates: the approximate number of updates on full mini-batches in the run.
        shared: whether the examples of a mini-batch share their candidates.

    Attributes:
        route: a name from `routes_of`, or "never" for the plain step; None until it is chosen.

    Raises:
        UserError: `how` names a route that is not available here; the message says why.
    """

    def __init__(self, update: Update, how: str, updates: int, shared: bool = True) -> None:
        self.update, self.network, self.updates = update, update.network, updates
        self.made: Mapping[str, Make] = {}
        self.route: str | None = "never"
        self.run: Callable[..., UpdateResult] | None = None
        if how == "never":
            return
        self.made, reason = routes_of(update)
        if not shared and update.network.device.type == "cpu":
            self.made, reason = {}, "each example has candidates of its own"
        if update.exchange is not None and not distributed.everywhere(bool(self.made)):
            self.made, reason = {}, "not all ranks have it"
        if how == "auto":
            if not self.made:
                log.info("the plain step runs: %s", reason)
                return
            self.route = None if update.network.device.type == "cpu" else "never"
        elif how in self.made:
            self.route = how
        else:
            raise UserError(f"compile={how} has no effect here: {reason}; take compile=auto")

    def __call__(
        self, batch: Batch, state: State, learners: Learners, measure: bool = False
    ) -> UpdateResult:
        """As `Update.__call__`."""
        if self.route is None and (batch.full or batch.repeat is not None):
            self.route = self._choose(batch, state, learners)
        if self.route in (None, "never"):
            return self.update(batch, state, learners, measure)
        if self.update.exchange is not None and not batch.full:  # a rank may have no example
            done = self.update(batch, state, learners, measure)
            self.update.optimizer.zero_grad()  # the fast step adds to what it finds
            return done
        try:
            if self.run is None:
                made, reason = routes_of(self.update)  # it may have changed: `network.double()`
                if self.route not in made:
                    raise RuntimeError(reason)
                self.run = made[self.route](self.update)
            return self.run(batch, state, learners, measure)
        except Exception as error:  # anything that a compiler, its back end or a driver raises
            if self.update.exchange is not None:  # the other ranks would wait for this one
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            log.warning("the fast step failed, so the plain one runs: %s", reason)
            self.route = "never"
            return self.update(batch, state, learners, measure)

    def _choose(self, batch: Batch, state: State, learners: Learners) -> str:
        """The fastest route: known from an earlier run, or measured on a copy of the network."""
        first = next(iter(self.made))
        one = len(self.made) == 1 or self.update.exchange is not None  # the same on all ranks
        if self.updates < WORTH_MEASURING or one:
            return first
        key = routes.key_of(self.update, batch)
        known = routes.known(key)
        if known in (*self.made, "never"):
            log.info("compile=%s: the fastest step when it was measured on this machine", known)
            return str(known)
        taken = self._measure(batch, state, learners)
        fastest = min(taken, key=lambda name: taken[name])
        times = ", ".join(f"{name} {1e3 * s:.2f} ms" for name, s in taken.items())
        log.info("compile=%s: the fastest step (%s)", fastest, times)
        routes.keep(key, fastest)
        return fastest

    def _measure(self, batch: Batch, state: State, learners: Learners) -> dict[str, float]:
        """Seconds per step of each route, measured in turns; does not change the network."""
        trial = copy.deepcopy(self.update)
        runs: dict[str, Callable[..., UpdateResult]] = {"never": trial}
        runs |= {name: make(trial) for name, make in self.made.items()}
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(ROUNDS + 1):
            for name, run in runs.items():
                count = WARM_UP if turn == 0 else STEPS
                started = time.perf_counter()
                for _ in range(count):
                    run(batch, state, learners, False)
                if turn > 0:
                    taken[name].append((time.perf_counter() - started) / count)
        return {name: statistics.median(each) for name, each in taken.items()}


def routes_of(update: Update) -> tuple[dict[str, Make], str]:
    """The routes that serve an update, the likely fastest first, and why there are no others."""
    if update.network.device.type == "cuda":
        return {"graph": GraphUpdate, "always": compiled_update}, "on a GPU: graph, or always"
    if update.network.device.type != "cpu":
        return {}, f"there is none for device={update.network.device.type}"
    if native.library() is None:
        return {}, "it needs a C++ compiler (g++ or clang++)"
    if reason := why_not(update):
        return {}, reason
    made: dict[str, Make] = {}
    if FastUpdate.compiles(update):
        made["always"] = lambda u: FastUpdate(u, native=True)
        made["products"] = lambda u: FastUpdate(u, native=False)
        return made, "graph is for GPUs"
    # The only route.
    return {"always": lambda u: FastUpdate(u, native=False)}, "this loss is not compiled"
