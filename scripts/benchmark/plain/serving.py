"""A worker process: its specification, its main loop, and the sessions that it measures on."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

Array = np.ndarray[Any, np.dtype[Any]]
Answer = dict[str, Any]


@dataclass(frozen=True)
class Spec:
    """What a worker process measures; `seconds`: the approximate time of a measurement."""

    work: str
    seconds: float
    num_items: int
    hidden_size: int = 100
    batch_size: int = 1
    num_negatives: int = 0
    loss: str = "bpr_max"
    model: str = "id_only"
    strategy: str = "simultaneous"
    stage: int = 0
    output: str = "free"
    compile: str = "never"
    sharp: bool = False  # scores far apart, so that the softmax has denormal numbers
    events: int = 0  # of an evaluation or a preparation; 0: as many as fit into `seconds`
    path: str = ""
    device: str = "cpu"
    threads: int | None = None


LEARNED = 50_000  # events that a network is trained on before it is measured


class Work(Protocol):
    def measure(self, seconds: float) -> Answer:
        """{"work": ..., "seconds": ...} and further figures by name."""


def serve(make: Callable[[Spec], Work]) -> None:
    """The loop of a worker: build from the first line of stdin, measure at each further line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent closes the pipe
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # keeps what libraries print out of the answers
        contender = None
        print("{}", file=answers)  # ready: everything is imported
        for line in sys.stdin:
            try:
                if contender is None:
                    spec = Spec(**json.loads(line))
                    contender = make(spec)
                    answer = about(spec.device)
                else:
                    answer = contender.measure(float(json.loads(line)))
            except Exception as error:  # a contender that fails must not stop the others
                answer = {"error": f"{error}", "trace": traceback.format_exc()}
            print(json.dumps(answer), file=answers)


def about(device: str) -> Answer:
    """Versions, threads and GPU of this process."""
    found: Answer = {"PyTorch": torch.__version__, "threads": torch.get_num_threads()}
    return found | ({"GPU": torch.cuda.get_device_name()} if device == "cuda" else {})


def draw_sessions(
    num_items: int, num_events: int, seed: int = 0, parallel: int = 0
) -> tuple[Array, Array]:
    """Items int32 [E] and offsets int64 [S+1] of about `num_events` events, 5 per session.

    P(item) ~ (rank + 10)^-0.8, except that three of four events are the item that follows the
    previous one, so that there is something to learn and weights become those of a trained network.
    The last sessions are sorted from long to short, so that `parallel` slots end together: in a
    pass of a second the end would otherwise weigh far more than in real training.
    """
    rng = np.random.default_rng([seed, num_events])
    lengths = 1 + rng.geometric(0.25, size=max(1, parallel, num_events // 5))
    last = max(0, len(lengths) - 8 * parallel)
    lengths[last:] = np.sort(lengths[last:])[::-1]
    offsets = np.concatenate([[0], lengths.cumsum()])
    below = ((np.arange(num_items) + 10.0) ** -0.8).cumsum()
    ranks = np.searchsorted(below, rng.random(offsets[-1]) * below[-1], side="right")
    follows = rng.random(len(ranks)) < 0.75
    follows[offsets[:-1]] = False
    # The start of the run of followers that each event belongs to.
    begin = np.maximum.accumulate(np.where(follows, 0, np.arange(len(ranks))))
    ranks = (ranks[begin] + np.arange(len(ranks)) - begin) % num_items
    permuted = np.random.default_rng(0).permutation(num_items).astype(np.int32)
    return permuted[ranks], offsets


def timed(run: Callable[[int], Any], count: int) -> float:
    """Seconds of `count` calls."""
    synchronise()
    started = time.perf_counter()
    for t in range(count):
        run(t)
    synchronise()
    return time.perf_counter() - started


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Repeated:
    """Calls a function about as often as fits into a measurement."""

    def __init__(self, run: Callable[[int], Any], work: int, seconds: float) -> None:
        self.run, self.work = run, work
        tried = 20 if timed(run, 1) < 0.1 else 1  # a slow call needs no repetition
        timed(run, tried)
        self.count = max(1, round(seconds * tried / timed(run, tried)))

    def measure(self, seconds: float) -> Answer:
        return {"work": self.work * self.count, "seconds": timed(self.run, self.count)}
