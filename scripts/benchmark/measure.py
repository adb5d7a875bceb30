"""Worker processes that take turns, and the results of their rounds.

Every contender has its own process, so that the allocator, threads and compiler of one do not
affect another. One process works at a time while the others are stopped, because threads that spin
while waiting for work would occupy a core. Ratios are computed within a round.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmark.groups import Contender, Group, Labels
from benchmark.plain.serving import Answer

log = logging.getLogger(__name__)

HERE = Path(__file__).resolve().parent
PATIENCE_S = 5.0  # before a worker whose pipe was closed is killed


@dataclass(frozen=True)
class Measurement:
    """A figure of a contender: median and range over the rounds."""

    part: str
    labels: Labels
    contender: str
    metric: str
    median: float
    low: float
    high: float
    rounds: int


class Failed(Exception):
    """A contender cannot be measured; `trace`: where it failed."""

    def __init__(self, reason: str, trace: str = "") -> None:
        super().__init__(reason)
        self.trace = trace


class Worker:
    """A process that measures one contender."""

    def __init__(self, contender: Contender, environment: Mapping[str, str]) -> None:
        self.contender = contender
        env, module, place = dict(environment), "benchmark.worker", HERE.parent
        if contender.plain:
            module, place = "plain", HERE
        env["PYTHONPATH"] = os.pathsep.join([str(place), *filter(None, [env.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            text=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._resume()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        try:
            self.process.wait(0 if kind else PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def start(self) -> None:
        """Wait until the process has imported its modules."""
        self._answer()

    def set_up(self) -> Answer:
        """Let the process build what it measures, and warm up."""
        return self._ask(asdict(self.contender.spec))

    def measure(self) -> Answer:
        return self._ask(self.contender.spec.seconds)

    def _resume(self) -> None:
        if hasattr(signal, "SIGCONT"):
            self.process.send_signal(signal.SIGCONT)

    def _ask(self, message: Any) -> Answer:
        assert self.process.stdin is not None
        self._resume()
        with contextlib.suppress(BrokenPipeError):  # the process has ended: `_answer` reports it
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Answer:
        """Read the next answer, then stop the process."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"its process ended with status {self.process.wait()}")
        if hasattr(signal, "SIGSTOP"):
            self.process.send_signal(signal.SIGSTOP)
        answer: Answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"], answer["trace"])
        return answer


@dataclass
class GroupResult:
    """What the workers of a group answered."""

    group: Group
    answers: dict[int, list[Answer]]  # contender number -> answers of its rounds
    about: Answer  # versions and threads
    traces: list[str]

    def rows(self) -> Iterator[Measurement]:
        for number, answers in self.answers.items():
            for metric, values in self._figures(number, answers).items():
                contender = self.group.contenders[number]
                yield Measurement(
                    self.group.part,
                    contender.labels,
                    contender.name,
                    metric,
                    statistics.median(values),
                    min(values),
                    max(values),
                    len(values),
                )

    def _figures(self, number: int, answers: list[Answer]) -> dict[str, list[float]]:
        """Metric -> its value in each round; ratios to a baseline are those of the same round."""
        rates = _rates(answers)
        found = {f"{self.group.work}_per_s": rates}
        for name, baseline in self.group.baselines.items():
            if baseline in self.answers and baseline != number:
                others = _rates(self.answers[baseline])
                found[f"speed_to_{name}"] = [x / y for x, y in zip(rates, others, strict=True)]
                found[f"time_to_{name}"] = [y / x for x, y in zip(rates, others, strict=True)]
        further = [key for key in answers[0] if key not in ("work", "seconds")]
        found |= {key: [answer[key] for answer in answers] for key in further}
        return found


def _rates(answers: list[Answer]) -> list[float]:
    return [answer["work"] / answer["seconds"] for answer in answers]


def measure(group: Group, rounds: int, environment: Mapping[str, str]) -> GroupResult:
    """Start the workers of a group and let them take turns.

    A contender that fails is left out, with a warning.

    Args:
        environment: environment variables of the processes.
    """
    answers: dict[int, list[Answer]] = {number: [] for number in range(len(group.contenders))}
    about: Answer = {}
    traces = []
    with ExitStack() as stack:
        # All import at the same time; then they are set up one after another.
        workers = [stack.enter_context(Worker(each, environment)) for each in group.contenders]

        def each(act: Callable[[int], None]) -> None:
            for number in list(answers):
                try:
                    act(number)
                except Failed as failure:
                    del answers[number]
                    log.warning("%s is left out: %s", group.contenders[number].name, failure)
                    traces.append(failure.trace)

        each(lambda number: workers[number].start())
        each(lambda number: about.update(workers[number].set_up()))
        for _ in range(group.rounds or rounds):
            each(lambda number: answers[number].append(workers[number].measure()))
    return GroupResult(group, answers, about, traces)
