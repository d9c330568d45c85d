# SPDX-License-Identifier: Apache-2.0
"""How a check is made, and the trial run that the checks share."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

from tracer.errors import TracerError
from tracer.kernel.counter_plan import CounterPlan, plan_counters
from tracer.kernel.event_specs import EventSpec
from tracer.kernel.loader import Programs
from tracer.preflight.checks import Finding


class Trial:
    """A run's options, and what the checks opened of the run so far; `close` gives it back."""

    def __init__(self, *, tick_ns: int, specs: tuple[EventSpec, ...] = (), output: Path | None = None) -> None:
        self.tick_ns = tick_ns
        self.specs = specs
        self.output = output
        self.loaded: Programs | None = None

    @cached_property
    def plan(self) -> CounterPlan:
        """Which events can be counted. Raises TracerError."""
        return plan_counters(self.specs)

    @property
    def counted(self) -> list[bool]:
        """Per counter, whether it would be counted in a run; none where no event can be opened at all."""
        try:
            return self.plan.counted
        except TracerError:
            return [False] * len(self.specs)

    @property
    def programs(self) -> Programs:
        """The loaded programs; only for probes that need `bpf-load`."""
        assert self.loaded is not None
        return self.loaded

    def close(self) -> None:
        """Closes the programs."""
        if self.loaded is not None:
            self.loaded.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


# Returns what it found. What it raises, TracerError or OSError, is a failure, or a warning if it is not required.
Examination = Callable[[Trial], Finding]


class Probe(NamedTuple):
    """How one check is made."""

    id: str
    examine: Examination
    remedy: str
    """What to do about an error that does not say so itself."""
    required: bool = False
    quick: bool = False
    """Takes well under 10 ms, so that a run can afford it before it starts."""
    needs: tuple[str, ...] = ()
    """Checks without which this one cannot be made."""
