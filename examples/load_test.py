"""Clients that click through sessions of a running server, and how long their clicks take.

    python examples/load_test.py url=http://127.0.0.1:8000 clients=50 clicks=200

Each client sends its next click when it has the answer to the last one: one of the items that were
recommended, in a new session every 10 clicks.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

from p_rnn.settings.errors import UserError
from serving.settings import help_of, read_settings


@dataclass(frozen=True)
class Load:
    url: str = "http://127.0.0.1:8000"
    clients: int = 50
    clicks: int = 200  # of each client
    k: int = 20


@dataclass
class Measured:
    seconds: float = 0.0
    times: list[float] = field(default_factory=list)  # seconds of each answered click
    errors: Counter[str] = field(default_factory=Counter)

    def quantile(self, part: float) -> float:
        """Milliseconds."""
        times = sorted(self.times) or [0.0]
        return 1000 * times[min(int(part * len(times)), len(times) - 1)]

    def __str__(self) -> str:
        rate = len(self.times) / self.seconds
        return (
            f"{len(self.times):,} clicks in {self.seconds:.1f} s: {rate:,.0f} requests/s, "
            f"p50 {self.quantile(0.5):.1f} ms, p99 {self.quantile(0.99):.1f} ms, "
            f"{sum(self.errors.values())} errors{dict(self.errors) or ''}"
        )


def connect(load: Load) -> httpx.AsyncClient:
    """A client with a connection of its own; one client for all takes longer for each request."""
    return httpx.AsyncClient(base_url=load.url, timeout=60, verify=not load.url.startswith("http:"))


async def measure(load: Load) -> Measured:
    """Clicks of `load.clients` clients at the same time."""
    async with connect(load) as http:
        response = await http.post("/recommend", json={"session": [], "k": 100})
        response.raise_for_status()
    popular = [each["item"] for each in response.json()["items"]]
    measured, started = Measured(), time.perf_counter()
    await asyncio.gather(*(_visit(n, load, popular, measured) for n in range(load.clients)))
    measured.seconds = time.perf_counter() - started
    return measured


async def _visit(number: int, load: Load, popular: list[int | str], measured: Measured) -> None:
    chance, items = random.Random(number), popular
    async with connect(load) as http:
        for click in range(load.clicks):
            path = f"/sessions/load-{os.getpid()}-{number}-{click // 10}/clicks?k={load.k}"
            began = time.perf_counter()
            try:
                response = await http.post(path, json={"item": chance.choice(items)})
            except httpx.HTTPError as error:
                measured.errors[type(error).__name__] += 1
                continue
            if response.status_code != 200:
                measured.errors[str(response.status_code)] += 1
                continue
            measured.times.append(time.perf_counter() - began)
            items = [each["item"] for each in response.json()["items"]] or popular


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.exit(print(help_of(Load, sys.argv[0])))
    try:
        load = read_settings(Load, sys.argv[1:], {})
        print(asyncio.run(measure(load)))
    except httpx.ConnectError as error:
        sys.exit(
            f"error: no server answers at {load.url} ({error}); start one with python "
            "examples/serve.py checkpoint=<best.pt of a run>, or give url="
        )
    except (UserError, httpx.HTTPError) as error:
        sys.exit(f"error: {error}")
