"""The worker process of p_rnn: training, evaluation, preparation and recommendations."""

from __future__ import annotations

import contextlib
import itertools
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmark.plain.serving import (
    LEARNED,
    Answer,
    Spec,
    Work,
    draw_sessions,
    serve,
    synchronise,
)
from p_rnn.data.catalogue import Catalogue
from p_rnn.data.dataset import Sessions
from p_rnn.data.features import BagFeature, DenseFeature, Feature
from p_rnn.data.prepare import prepare
from p_rnn.evaluation.evaluator import EvaluationProtocol, evaluate
from p_rnn.evaluation.ranking import Ranker
from p_rnn.models.architectures import build_network
from p_rnn.models.cells import State
from p_rnn.models.merges import Merge
from p_rnn.models.network import PRNN
from p_rnn.recommend import Recommender
from p_rnn.runs.runtime import use_device
from p_rnn.settings.config import Settings
from p_rnn.settings.hydra_glue import load_config
from p_rnn.settings.resolve import resolve
from p_rnn.settings.sections import EvaluationConfig, PathsConfig, TrackingConfig
from p_rnn.streams import Streams
from p_rnn.tracking import Tracker
from p_rnn.training.trainer import Trainer

FEATURE_WIDTH = 128
TOKENS = 600
FEWEST_STEPS = 100  # in a pass, so that its end has little weight
MOST_EVENTS = 500_000
SHARPER = 10.0  # factor of the output weights, and of the input's if they are shared
STEPS_BEFORE = 3000  # of training, before sessions are recommended to
FIRST_TARGETS = 2000  # of a first evaluation, from which the number for a measurement is estimated


def settings(spec: Spec) -> Settings:
    """The settings as scripts/train.py would resolve them."""
    table = ["dataset=table", "dataset.path=none", f"device={spec.device}"]
    quiet = ["tracking.tensorboard=false", "tracking.progress=false"]
    names = ["model", "strategy", "loss", "batch_size", "num_negatives", "hidden_size", "compile"]
    own = [f"{name}={getattr(spec, name)}" for name in names]
    if spec.loss == "cross_entropy":
        own.append("loss.logq=0")  # as in the textbook step
    return resolve(load_config(*table, *quiet, *own, f"model.output={spec.output}"))


def sessions_of(spec: Spec, events: int, parallel: int = 0) -> Sessions:
    items, offsets = draw_sessions(spec.num_items, events, parallel=parallel)
    return Sessions(items, offsets, np.zeros(len(items), dtype=np.int64))


def network_of(spec: Spec, config: Settings) -> tuple[PRNN, Streams]:
    """An untrained network; models other than id_only read one dense feature, outputs a bag."""
    streams, features = Streams(config.seed, spec.device), dict[str, Feature]()
    if config.model.name != "id_only":
        shape = (spec.num_items, FEATURE_WIDTH)
        values = np.random.default_rng(2).standard_normal(shape, dtype=np.float32)
        features["image"] = DenseFeature("image", "", values)
    elif spec.output != "free":
        features["tags"] = bag_of_four(spec.num_items)
    return build_network(config, spec.num_items, streams, features), streams


def bag_of_four(num_items: int) -> BagFeature:
    """Four different tokens of `TOKENS` for each item."""
    rng = np.random.default_rng(3)
    step = rng.integers(1, TOKENS // 4, size=(num_items, 4)).cumsum(axis=1)
    tokens = (rng.integers(TOKENS, size=(num_items, 1)) + step) % TOKENS
    offsets = np.arange(num_items + 1, dtype=np.int64) * 4
    return BagFeature("tags", "", offsets, tokens.astype(np.int32).reshape(-1), None, TOKENS)


class TrainingWork:
    """Runs passes of the trainer over as many sessions as fit into a measurement."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        # The number of sessions is estimated with the plain step, so that compiling happens once.
        self._build(replace(spec, compile="never"), 50 * spec.batch_size)
        self._cycle()
        started = time.perf_counter()
        rate = self._cycle() / (time.perf_counter() - started)
        wanted = int(rate * spec.seconds / len(self.indices))
        self._build(spec, max(FEWEST_STEPS * spec.batch_size, min(MOST_EVENTS, wanted)))
        learned = 0
        while learned < LEARNED:
            learned += self._cycle()
        if spec.sharp:
            with torch.no_grad():
                merge = self.trainer.network.merge
                assert isinstance(merge, Merge)
                for table in merge.tables:
                    table.weight.mul_(SHARPER)  # type: ignore[operator]

    def _build(self, spec: Spec, events: int) -> None:
        config = settings(spec)
        network, streams = network_of(spec, config)
        # A quarter more, because the first event of a session is not a target.
        sessions = sessions_of(spec, events * 5 // 4, parallel=spec.batch_size)
        tracker = Tracker(Path(tempfile.gettempdir()), TrackingConfig(100, False, False))
        support = np.maximum(sessions.support(spec.num_items), 1)
        self.trainer = Trainer(config, network, sessions, support, streams, tracker)
        stage = [k for k, each in enumerate(self.trainer.passes) if each.stage == spec.stage]
        ends = next(n for n, k in enumerate(stage) if self.trainer.passes[k].ends_cycle)
        self.indices = stage[: ends + 1]

    def _cycle(self) -> int:
        """Run the passes in which every subnet of the stage has a turn; return their events."""
        events = sum(self.trainer.run_pass(index).events for index in self.indices)
        synchronise()
        return events

    def measure(self, seconds: float) -> Answer:
        """Run cycles until 70 % of the time is over."""
        events, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < 0.7 * seconds:
            events += self._cycle()
        return {"work": events, "seconds": elapsed}


class SteppingOnly:
    """A network that reads the sessions but computes no scores."""

    def __init__(self, network: PRNN) -> None:
        self.num_items = network.num_items
        self.begin, self.step = network.begin, network.step

    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        width = items.shape[-1] if isinstance(items, Tensor) else items.stop - items.start
        return state[0].new_zeros(len(state[0]), width)


class EvaluationWork:
    """Evaluates an untrained network, completely and without computing scores."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.network, _ = network_of(spec, settings(spec))
        self.network.eval()
        self.sessions = sessions_of(spec, spec.events or FIRST_TARGETS * 5 // 4)
        self.support = np.maximum(self.sessions.support(spec.num_items), 1)
        if not spec.events:
            self._run(self.network)
            targets, taken = self._run(self.network)
            wanted = max(FIRST_TARGETS, int(targets / taken * spec.seconds))
            self.sessions = sessions_of(spec, min(MOST_EVENTS, wanted * 5 // 4))

    def _run(self, ranker: Ranker, most_popular: int | None = None) -> tuple[int, float]:
        """Evaluate; return the number of targets and the seconds."""
        asked = EvaluationConfig(most_popular=most_popular)
        protocol = EvaluationProtocol(self.spec.num_items, self.support, asked)
        started = time.perf_counter()
        ranks = evaluate(ranker, self.sessions, protocol, self.spec.device)
        synchronise()
        return len(ranks.rank), time.perf_counter() - started

    def measure(self, seconds: float) -> Answer:
        forget_peak()
        held, _ = memory_mib()
        targets, taken = self._run(self.network)
        _, peak = memory_mib()
        _, stepping = self._run(SteppingOnly(self.network), most_popular=1)
        answer = {
            "work": targets,
            "seconds": taken,
            "recurrent_share": stepping / taken,
            "peak_mib": peak,
        }
        # Earlier evaluations have left memory that is reused.
        return answer | ({"grown_mib": peak - held} if self.spec.events else {})


class PreparationWork:
    """Prepares an event file repeatedly, each time into a new folder."""

    def __init__(self, spec: Spec) -> None:
        file = Path(spec.path)
        overrides = ("dataset=table", f"dataset.path={file.name}", f"paths.raw={file.parent}")
        self.config, self.folder = load_config(*overrides), file.parent
        self.events = spec.events

    def measure(self, seconds: float) -> Answer:
        with tempfile.TemporaryDirectory(dir=self.folder) as prepared:
            started = time.perf_counter()
            dataset = prepare(self.config.dataset, PathsConfig(str(self.folder), prepared))
            taken = time.perf_counter() - started
            assert dataset.num_items
        return {"work": self.events, "seconds": taken, "peak_mib": memory_mib()[1]}


class RecommendWork:
    """Live sessions of a trained network: a click in each, and the best items after it."""

    def __init__(self, spec: Spec) -> None:
        training = TrainingWork(
            replace(spec, seconds=1.0, batch_size=64, num_negatives=2048, compile="auto")
        )
        learned = 0
        while learned < 64 * STEPS_BEFORE:
            learned += training._cycle()
        network, items = training.trainer.network, np.arange(spec.num_items)
        catalogue = Catalogue(items, np.ones_like(items), {}, {})
        config, device = training.trainer.config, torch.device(spec.device)
        self.recommender = Recommender(config, catalogue, network, device, {})
        self.clicks = self._clicks(spec)
        self.live = [self.recommender.start() for _ in range(spec.batch_size)]
        self.measure(0.5)

    def _clicks(self, spec: Spec) -> Iterator[list[tuple[int, bool]]]:
        """For each session of a batch the next item, and whether it begins a session."""
        items, offsets = draw_sessions(spec.num_items, MOST_EVENTS, seed=1)
        begins = np.zeros(len(items), dtype=bool)
        begins[offsets[:-1]] = True
        slots = np.array_split(np.stack([items, begins], axis=1), spec.batch_size)
        least = min(map(len, slots))
        for t in itertools.cycle(range(least)):
            yield [(int(slot[t, 0]), bool(slot[t, 1])) for slot in slots]

    def measure(self, seconds: float) -> Answer:
        times: list[float] = []
        while sum(times) < seconds:
            clicks = next(self.clicks)
            for slot, (_, begins) in enumerate(clicks):
                if begins:
                    self.live[slot] = self.recommender.start()
            started = time.perf_counter()
            self.recommender.step_many(self.live, [item for item, _ in clicks])
            self.recommender.top_many(self.live, 20)
            times.append(time.perf_counter() - started)
        return {
            "work": len(times) * len(self.live),
            "seconds": sum(times),
            "median_ms": 1000 * float(np.median(times)),
            "p99_ms": 1000 * float(np.quantile(times, 0.99)),
        }


def memory_mib() -> tuple[float, float]:
    """Memory of this process now, and its peak."""
    status = Path("/proc/self/status")  # Linux; its getrusage counts the parent's peak, too
    lines = status.read_text().splitlines() if status.exists() else []
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    if "VmHWM" in fields:
        held, peak = (int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return held, peak
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return peak, peak


def forget_peak() -> None:
    """Reset the peak memory, if the system supports it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


WORK: dict[str, Callable[[Spec], Work]] = {
    "training": TrainingWork,
    "evaluation": EvaluationWork,
    "preparation": PreparationWork,
    "recommend": RecommendWork,
}


def make(spec: Spec) -> Work:
    use_device(spec.device, spec.threads)
    return WORK[spec.work](spec)


if __name__ == "__main__":
    serve(make)
