# SPDX-License-Identifier: Apache-2.0
"""Steps of time (ticks or windows), numbered without the gaps in a recording."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from tracer.analysis.recording import Span


class Part(NamedTuple):
    """`steps` of them from `first_step` on, which begins at `start`; `span` is what to read for it."""

    first_step: int
    steps: int
    start: datetime
    span: Span


class Timeline:
    """The steps of `step_ns` in `spans`, which ascend."""

    def __init__(self, spans: Sequence[Span], step_ns: int) -> None:
        self._step = timedelta(microseconds=step_ns / 1000)
        self._spans: list[tuple[int, int, Span]] = []
        self.steps = 0
        for span in spans:
            # A step is where its start is nearest to: the last one may begin half a step after the end.
            steps = int((span.end - span.start) / self._step) + 2
            self._spans.append((self.steps, steps, span))
            self.steps += steps

    def parts(self, longest: int) -> Iterator[Part]:
        """All steps, at most so many at a time."""
        for first_step, steps, span in self._spans:
            for first in range(0, steps, longest):
                count = min(longest, steps - first)
                start = span.start + first * self._step
                # Where a step is rounded to may begin half a step before.
                read = Span(max(span.start, start - self._step / 2), min(span.end, start + (count - 0.5) * self._step))
                if read.start < read.end:
                    yield Part(first_step + first, count, start, read)

    def time_of(self, step: int) -> datetime:
        """When a step begins."""
        for first_step, steps, span in self._spans:
            if step < first_step + steps:
                return min(span.start + (step - first_step) * self._step, span.end)
        return self._spans[-1][2].end
