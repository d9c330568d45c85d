# SPDX-License-Identifier: Apache-2.0
"""Which of the three counters this node can count, and how."""

from collections.abc import Sequence
from typing import NamedTuple

from tracer.kernel.cpus import online_cpus
from tracer.kernel.event_specs import EventSpec
from tracer.kernel.perf_events import choose_grouping, probe_events


class CounterPlan(NamedTuple):
    """The events of the counters cycles, instructions and llc_misses, in this order.

    `reasons[i]` is None where event i can be counted, else why it cannot. `grouped`: all count over the same time.
    """

    specs: tuple[EventSpec, ...]
    reasons: tuple[str | None, ...]
    grouped: bool

    @property
    def counted(self) -> list[bool]:
        """Per counter, whether it is counted in this run."""
        return [reason is None for reason in self.reasons]

    @property
    def counted_specs(self) -> list[EventSpec]:
        """The events that are opened on each CPU."""
        return [spec for spec, reason in zip(self.specs, self.reasons, strict=True) if reason is None]


def plan_counters(specs: Sequence[EventSpec]) -> CounterPlan:
    """Tries the run's own events on one online CPU and closes them again. Raises NodeUnsupportedError."""
    cpu = online_cpus()[0]
    reasons = probe_events(cpu, specs)
    plan = CounterPlan(tuple(specs), reasons, grouped=True)
    return plan._replace(grouped=not plan.counted_specs or choose_grouping(cpu, plan.counted_specs))
