"""Counters in the text format of Prometheus."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)  # buckets of times


class Metrics:
    """Requests by route and status, and how long those of each route took."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._times: dict[str, list[int]] = {}  # by bucket, the last one for all that are longer
        self._sums: defaultdict[str, float] = defaultdict(float)
        self.clicks: Counter[bool] = Counter()  # by whether the model could read them

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests[method, route, status] += 1
        times = self._times.setdefault(route, [0] * (len(SECONDS) + 1))
        times[sum(seconds > most for most in SECONDS)] += 1
        self._sums[route] += seconds

    def text(self, **gauges: float) -> str:
        """All of them, and more values by name."""
        lines = ["# TYPE p_rnn_requests_total counter"]
        for (method, route, status), count in sorted(self._requests.items()):
            labels = f'method="{method}",route="{route}",status="{status}"'
            lines.append(f"p_rnn_requests_total{{{labels}}} {count}")
        lines.append("# TYPE p_rnn_request_seconds histogram")
        for route, times in sorted(self._times.items()):
            lines += self._histogram(route, times)
        lines.append("# TYPE p_rnn_clicks_total counter")
        for read in (True, False):
            lines.append(f'p_rnn_clicks_total{{read="{str(read).lower()}"}} {self.clicks[read]}')
        for name, value in gauges.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# TYPE p_rnn_{name} {kind}", f"p_rnn_{name} {value}"]
        return "\n".join(lines) + "\n"

    def _histogram(self, route: str, times: list[int]) -> Iterable[str]:
        name, total = "p_rnn_request_seconds", 0
        for most, count in zip((*SECONDS, "+Inf"), times, strict=True):
            total += count
            yield f'{name}_bucket{{route="{route}",le="{most}"}} {total}'
        yield f'{name}_sum{{route="{route}"}} {self._sums[route]:.6f}'
        yield f'{name}_count{{route="{route}"}} {total}'
