"""What each part measures: groups of contenders that take turns, and their baselines."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmark.config import MODES
from benchmark.plain.serving import Spec, draw_sessions

Labels = dict[str, Any]  # strings and integers
# Key of a list of the grid -> the field of a Spec that takes one of its values.
FIELDS = {
    "batch_sizes": "batch_size",
    "num_negatives": "num_negatives",
    "hidden_sizes": "hidden_size",
    "num_items": "num_items",
    "losses": "loss",
}
PLAIN = ("training floor", "textbook", "ranking floor")  # measured by benchmark/plain
BLOCK_EVENTS = 100_000  # of an event file that are written at a time


@dataclass(frozen=True)
class Contender:
    """A contender: its name, the labels of its row in the tables, and what it measures."""

    name: str
    labels: Labels
    spec: Spec

    @property
    def plain(self) -> bool:
        return self.spec.work in PLAIN


@dataclass(frozen=True)
class Group:
    """Contenders that take turns.

    Attributes:
        baselines: name -> number of the contender that the others are compared with.
        work: what they do: "events", "targets" or "clicks".
        rounds: number of rounds; 0: as many as configured.
    """

    part: str
    contenders: list[Contender]
    baselines: dict[str, int] = field(default_factory=dict)
    work: str = "events"
    rounds: int = 0


@dataclass(frozen=True)
class Plan:
    """Makes the groups of a part from its grid.

    Args:
        base: a Spec with seconds, device and threads.
        stack: holds temporary files until all is measured.
    """

    grid: Mapping[str, list[Any]]
    base: Spec
    stack: ExitStack

    def cells(self, *without: str) -> Iterator[tuple[Labels, Spec]]:
        """Every combination of the lists of the grid, except those in `without`."""
        keys = [key for key in FIELDS if key in self.grid and key not in without]
        for values in itertools.product(*(self.grid[key] for key in keys)):
            labels = {FIELDS[key]: value for key, value in zip(keys, values, strict=True)}
            yield labels, replace(self.base, **labels)

    def training(self) -> Iterator[Group]:
        """The training step compared with the floor and the textbook."""
        for labels, spec in self.cells():
            contenders = [
                Contender("floor", labels, replace(spec, work="training floor")),
                Contender("textbook", labels, replace(spec, work="textbook")),
            ]
            contenders += [Contender(n, labels, replace(spec, compile=m)) for n, m in self._modes()]
            yield Group("training", contenders, {"floor": 0, "textbook": 1})

    def _modes(self) -> list[tuple[str, str]]:
        return [(f"p_rnn {MODES[mode]}", mode) for mode in self.grid["compile"]]

    def architectures(self) -> Iterator[Group]:
        """A network of two subnets with each strategy, compared with one subnet."""
        variants = [
            ("id_only", "simultaneous", 0),
            ("parallel", "simultaneous", 0),
            ("parallel", "alternating", 0),
            ("parallel", "residual", 1),
            ("parallel", "interleaving", 0),
        ]
        for (labels, spec), (name, mode) in itertools.product(self.cells(), self._modes()):
            contenders = []
            for model, strategy, stage in variants:
                own: Labels = {"model": model, "strategy": strategy}
                if model == "id_only":
                    own["strategy"] = "-"
                elif stage:
                    own["strategy"] = f"{strategy}, stage {stage + 1}"
                made = replace(spec, model=model, strategy=strategy, stage=stage, compile=mode)
                contenders.append(Contender(name, {**own, **labels}, made))
            yield Group("architectures", contenders, {"id_only": 0})

    def outputs(self) -> Iterator[Group]:
        """Rows of items made from a bag of four tokens, compared with free rows."""
        for (labels, spec), (name, mode) in itertools.product(self.cells(), self._modes()):
            contenders = [
                Contender(name, {"output": how, **labels}, replace(spec, output=how, compile=mode))
                for how in ("free", "features", "both")
            ]
            yield Group("outputs", contenders, {"free": 0})

    def catalogue(self) -> Iterator[Group]:
        """Each contender compared with itself on the first, smallest catalogue."""
        for labels, spec in self.cells("num_items"):
            variants = {"textbook": replace(spec, work="textbook")}
            variants |= {name: replace(spec, compile=mode) for name, mode in self._modes()}
            for name, variant in variants.items():
                contenders = [
                    Contender(name, {**labels, "num_items": n}, replace(variant, num_items=n))
                    for n in self.grid["num_items"]
                ]
                yield Group("catalogue", contenders, {"first_catalogue": 0})

    def denormals(self) -> Iterator[Group]:
        """A step whose softmax gradients would be denormal, compared with an ordinary one."""
        for (labels, spec), (name, mode) in itertools.product(self.cells(), self._modes()):
            contenders = [
                Contender(
                    name, {"scores": scores, **labels}, replace(spec, compile=mode, sharp=sharp)
                )
                for scores, sharp in (("ordinary", False), ("far apart", True))
            ]
            yield Group("denormals", contenders, {"ordinary": 0})

    def evaluation(self) -> Iterator[Group]:
        """Ranking compared with its matrix product; then memory by number of events."""
        for labels, spec in self.cells():
            contenders = [
                Contender("floor", labels, replace(spec, work="ranking floor")),
                Contender("p_rnn", labels, replace(spec, work="evaluation")),
            ]
            yield Group("evaluation", contenders, {"floor": 0}, work="targets")
        first = self.grid["num_items"][0]
        hidden = self.grid["hidden_sizes"][0]
        for events in self.grid["events"]:
            labels = {"hidden_size": hidden, "num_items": first, "events": events}
            spec = replace(self.base, work="evaluation", **labels)
            yield Group("evaluation", [Contender("p_rnn", labels, spec)], work="targets", rounds=1)

    def preparation(self) -> Iterator[Group]:
        """A CSV file of events, from the reader to the prepared folder."""
        for (labels, spec), events in itertools.product(self.cells(), self.grid["events"]):
            folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
            path = folder / "events.csv"
            labels = {**labels, "events": write_log(path, spec.num_items, events)}
            spec = replace(spec, work="preparation", path=str(path), events=labels["events"])
            yield Group("preparation", [Contender("p_rnn", labels, spec)])

    def recommend(self) -> Iterator[Group]:
        """One click in each of a batch of live sessions, and the best 20 items after it."""
        for labels, spec in self.cells():
            contender = Contender("p_rnn", labels, replace(spec, work="recommend"))
            yield Group("recommend", [contender], work="clicks")


GROUPS: dict[str, Callable[[Plan], Iterator[Group]]] = {
    "training": Plan.training,
    "architectures": Plan.architectures,
    "outputs": Plan.outputs,
    "catalogue": Plan.catalogue,
    "denormals": Plan.denormals,
    "evaluation": Plan.evaluation,
    "preparation": Plan.preparation,
    "recommend": Plan.recommend,
}


def write_log(path: Path, num_items: int, events: int) -> int:
    """Write about `events` events in sessions over 30 days, in blocks; return the exact number."""
    written, sessions, blocks = 0, 0, -(-events // BLOCK_EVENTS)
    with path.open("w") as file:
        file.write("session,item,time\n")
        for block in range(blocks):
            items, offsets = draw_sessions(num_items, min(events, BLOCK_EVENTS), seed=block)
            low, high = (30 * 86_400 * (block + k) // blocks for k in range(2))
            for k, (start, end) in enumerate(itertools.pairwise(offsets.tolist())):
                at = low + (high - low) * k // (len(offsets) - 1)
                file.writelines(
                    f"{sessions + k},{item},{at + 30 * place}\n"
                    for place, item in enumerate(items[start:end].tolist())
                )
            written, sessions = written + len(items), sessions + len(offsets) - 1
    return written
