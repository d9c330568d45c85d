# SPDX-License-Identifier: Apache-2.0
"""Which path is answered by what: `/metrics`, `/live`, `/ready`, and where to look."""

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from tracer.live.metrics.exposition import PLAIN, Exposition, wants_openmetrics
from tracer.live.server import Answer

SHORTEST_INTERVAL_SECONDS: Final = 0.25
"""Who asks more often has the same answer again: totals change each half second, and CPU time is the node's."""
_INDEX: Final = b"tracer: /metrics, /live, /ready\n"


class Answers:
    """For the server; one thread calls it."""

    def __init__(self, exposition: Exposition, what_is_missing: Callable[[], str | None]) -> None:
        """`what_is_missing`: why the run is not ready, or None."""
        self._exposition = exposition
        self._what_is_missing = what_is_missing
        self._last: dict[bool, tuple[float, Answer]] = {}

    def __call__(self, method: str, target: str, accept: str) -> Answer:
        """Of GET and HEAD; a HEAD of the metrics is no scrape."""
        path = target.partition("?")[0]
        if path == "/metrics":
            return self._metrics(accept) if method == "GET" else Answer(HTTPStatus.OK, b"", PLAIN)
        if path == "/live":
            return Answer(HTTPStatus.OK, b"live\n")
        if path == "/ready":
            missing = self._what_is_missing()
            return (
                Answer(HTTPStatus.OK, b"ready\n")
                if missing is None
                else Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"not ready: {missing}\n".encode())
            )
        return Answer(HTTPStatus.OK if path == "/" else HTTPStatus.NOT_FOUND, _INDEX)

    def _metrics(self, accept: str) -> Answer:
        now = time.monotonic()
        kind = wants_openmetrics(accept)
        if kind not in self._last or now - self._last[kind][0] >= SHORTEST_INTERVAL_SECONDS:
            text, content_type = self._exposition.text(accept)
            self._last[kind] = now, Answer(HTTPStatus.OK, text, content_type)
        return self._last[kind][1]
