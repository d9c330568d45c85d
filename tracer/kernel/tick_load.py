# SPDX-License-Identifier: Apache-2.0
"""The load of `bpf_programs/cgroup_ticks.c`."""

from collections.abc import Sequence

from tracer.kernel.cpus import possible_cpus
from tracer.kernel.loader import LoadSpec, ProgramLoad

_FUNCTIONS = {
    "sched_switch": "RAW_TRACEPOINT",
    "tick": "PERF_EVENT",
    "poke": "RAW_TRACEPOINT",
}
_MAPS = ("states", "rings", "counter0", "counter1", "counter2")

# The template only gives BCC the type of the rings in the array; one page would do, two are the least it takes.
_TEMPLATE_PAGES = 2


class TickLoad(ProgramLoad):
    """A load of the tick programs under way.

    `counted` says which counters will be open. The per-CPU tables are sized for all possible CPUs.
    """

    def __init__(self, *, tick_ns: int, counted: Sequence[bool], extra_functions: Sequence[str] = ()) -> None:
        self.tick_ns = tick_ns
        # The numbers can have gaps.
        self.cpus = possible_cpus()[-1] + 1
        super().__init__(
            LoadSpec(
                source="cgroup_ticks.c",
                functions=_FUNCTIONS | dict.fromkeys(extra_functions, "RAW_TRACEPOINT"),
                maps=_MAPS,
                definitions={
                    "TICK_NS": f"{tick_ns}ULL",
                    "CPUS": str(self.cpus),
                    "COUNTED": str(sum(1 << index for index, is_open in enumerate(counted) if is_open)),
                    "RING_PAGES": str(_TEMPLATE_PAGES),
                },
            )
        )
