"""The model: one thread that takes what waits as one mini-batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from fastapi import HTTPException

from p_rnn.recommend import LiveSession, Recommender, Top
from p_rnn.settings.errors import UserError
from serving.messages import Answer, Item
from serving.sessions import Visit
from serving.settings import Settings


@dataclass(eq=False)
class Job:
    """A click or a look at a live session (`visit`), or a whole session (`ids`)."""

    k: int
    exclude_seen: bool
    visit: Visit | None = None
    item: int | str | None = None
    ids: list[int | str] = field(default_factory=list)
    candidates: tuple[int | str, ...] | None = None
    read: bool | None = None
    answer: Answer | UserError | None = None


Waiting = tuple[Job, "asyncio.Future[Answer]"]


class Worker:
    """Runs jobs in mini-batches, in one thread; those of one session in their order."""

    def __init__(self, recommender: Recommender, settings: Settings) -> None:
        self.recommender, self._settings = recommender, settings
        self._queue: asyncio.Queue[Waiting | None] = asyncio.Queue(settings.max_waiting)
        self._task = asyncio.create_task(self._work())
        self.batches = self.jobs = 0

    def submit(self, job: Job) -> asyncio.Future[Answer]:
        """The job waits for its turn; the answer comes later.

        Raises:
            HTTPException: 503, too many wait.
        """
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((job, answered))
        except asyncio.QueueFull:
            raise HTTPException(503, "too many requests wait", {"Retry-After": "1"}) from None
        return answered

    async def stop(self) -> None:
        """After the jobs that wait."""
        await self._queue.put(None)
        await self._task

    @property
    def alive(self) -> bool:
        return not self._task.done()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "model") as thread:
            while (first := await self._queue.get()) is not None:
                batch = await self._batch(first)
                jobs = [job for job, _ in batch]
                self.batches, self.jobs = self.batches + 1, self.jobs + len(jobs)
                bug: Exception | None = None
                try:
                    await loop.run_in_executor(thread, run, self.recommender, jobs)
                except Exception as error:  # these requests fail, the server goes on
                    bug = error
                for job, answered in batch:
                    if answered.done():  # cancelled: its client has gone
                        continue
                    if isinstance(job.answer, Answer):
                        answered.set_result(job.answer)
                    else:
                        answered.set_exception(job.answer or bug or RuntimeError("no answer"))

    async def _batch(self, first: Waiting) -> list[Waiting]:
        """The first that waits, and those that wait or come within `wait_ms`."""
        most, batch = self._settings.max_batch, [first]
        if self._queue.qsize() + 1 < most:
            await asyncio.sleep(self._settings.wait_ms / 1000)
        while len(batch) < most and not self._queue.empty():
            following = self._queue.get_nowait()
            if following is None:  # the end, for `_work`
                self._queue.put_nowait(None)
                break
            batch.append(following)
        return batch


def run(recommender: Recommender, jobs: Sequence[Job]) -> None:
    """Give each job its answer."""
    whole: dict[Any, list[Job]] = {}
    for job in jobs:
        if job.visit is None:
            whole.setdefault((job.exclude_seen, job.candidates), []).append(job)
    for (exclude_seen, candidates), group in whole.items():
        try:
            ids, k = [job.ids for job in group], max(job.k for job in group)
            give(group, recommender.recommend(ids, k, exclude_seen, candidates))
        except UserError as error:  # unknown candidates
            for job in group:
                job.answer = error
    waiting = [job for job in jobs if job.visit is not None]
    while waiting:
        turn: dict[int, Job] = {}  # the next job of each session
        for job in waiting:
            turn.setdefault(id(job.visit), job)
        take_turn(recommender, list(turn.values()))
        waiting = [job for job in waiting if turn[id(job.visit)] is not job]


def take_turn(recommender: Recommender, jobs: Sequence[Job]) -> None:
    """One job in each of many live sessions."""
    lives: dict[Job, LiveSession] = {}
    for job in jobs:
        assert job.visit is not None
        if job.visit.live is None:
            job.visit.live = recommender.start()
        lives[job] = job.visit.live
    clicks = [job for job in jobs if job.item is not None]
    read = recommender.step_many([lives[job] for job in clicks], [job.item for job in clicks])
    for job, done in zip(clicks, read, strict=True):
        job.read = done
    for exclude_seen in (False, True):
        group = [job for job in jobs if job.exclude_seen is exclude_seen]
        if group:
            k = max(job.k for job in group)
            give(group, recommender.top_many([lives[job] for job in group], k, exclude_seen))


def give(jobs: Sequence[Job], tops: Sequence[Top]) -> None:
    """Each job its answer, the first k of the items found for it."""
    for job, top in zip(jobs, tops, strict=True):
        labels = top.catalogue.labels(top.items[: job.k])
        items = [
            Item(item=item, score=score, labels=dict(zip(labels, values, strict=True)))
            for item, score, *values in zip(
                top.ids[: job.k], top.scores[: job.k], *labels.values(), strict=True
            )
        ]
        live = job.visit.live if job.visit else None
        clicks = len(live.history) + len(live.skipped) if live else len(job.ids)
        job.answer = Answer(items=items, clicks=clicks, skipped=top.skipped, read=job.read)
