# SPDX-License-Identifier: Apache-2.0
"""Processors that the machine at hand is not, by other answers of perf_event_open(2) and sysfs than the kernel's own.

An event that an emulated PMU counts is one of the kernel's software events in its place, so that all behind the system
call is real: descriptors, times, BPF. As a program it runs the tracer's command line on such a processor, which the
environment variable EMULATED_PMUS describes.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import msgspec

from tracer.kernel import counter_plan, perf_events
from tracer.kernel.event_specs import PERF_TYPE_SOFTWARE, parse_event
from tracer.kernel.topology.pmu import Pmu

VARIABLE = "EMULATED_PMUS"


class Answer(msgspec.Struct, frozen=True):
    """What opening an event comes to, on one CPU: an errno's name, or a software event that counts in its place.

    `first, then` is one thing the first time, and another from then on.
    """

    cpu: int
    type: int
    config: int
    answer: str


class Processor(msgspec.Struct, frozen=True):
    """Its core PMUs, as name, type and CPUs. Hardware events that are in no answer are none of its PMUs'."""

    answers: list[Answer]
    pmus: list[tuple[str, int, str]] = []

    @contextmanager
    def emulated(self) -> Iterator[None]:
        """In this process meanwhile."""
        answers = {(answer.cpu, answer.type, answer.config): answer.answer for answer in self.answers}
        pmus = [Pmu(name, type_, cpus, {}) for name, type_, cpus in self.pmus]
        real = perf_events._perf_event_open

        def perf_event_open(event: perf_events.CpuEvent) -> int:
            if event.type == PERF_TYPE_SOFTWARE:
                return real(event)
            key = (event.cpu, event.type, event.config)
            answer, _, then = answers.get(key, "ENOENT").partition(", ")
            answers[key] = then or answer
            if not answer.startswith("software:"):
                code = getattr(errno, answer)
                raise OSError(code, os.strerror(code))
            instead = parse_event(f"cycles={answer}")
            return real(event._replace(type=instead.type, config=instead.config))

        with (
            mock.patch.object(perf_events, "_perf_event_open", perf_event_open),
            mock.patch.object(counter_plan, "read_pmus", return_value=pmus),
        ):
            yield


if __name__ == "__main__":
    from tracer.cli.main import main

    with msgspec.json.decode(os.environ[VARIABLE], type=Processor).emulated():
        main()
