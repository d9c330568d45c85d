# SPDX-License-Identifier: Apache-2.0
"""The load of `bpf_programs/cgroup_ticks.c`."""

from collections.abc import Sequence
from pathlib import Path

from tracer.errors import NodeUnsupportedError
from tracer.kernel.btf import member_offsets, read_kernel_btf
from tracer.kernel.cpus import possible_cpus
from tracer.kernel.loader import LoadSpec, ProgramLoad

EXEC_RUNTIME = "EXEC_RUNTIME"
"""Among the definitions that the programs were loaded with: stolen time is told."""

_FUNCTIONS = {
    "sched_switch": "RAW_TRACEPOINT",
    "tick": "PERF_EVENT",
    "poke": "RAW_TRACEPOINT",
}
_WAIT_FUNCTIONS = dict.fromkeys(("sched_switch_untold", "sched_wakeup", "sched_wakeup_new"), "RAW_TRACEPOINT")
# A sched_entity lies in a task_struct.
_OFFSETS = {
    EXEC_RUNTIME: ("task_struct", "se"),
    "TASK_CGROUPS": ("task_struct", "cgroups"),
    "CSS_SET_CGROUP": ("css_set", "dfl_cgrp"),
    "CGROUP_KN": ("cgroup", "kn"),
    "KERNFS_NODE_ID": ("kernfs_node", "id"),
}
_MAPS = ("states", "rings", "counter0", "counter1", "counter2")

# The template only gives BCC the type of the rings in the array; one page would do, two are the least it takes.
_TEMPLATE_PAGES = 2
# Of the table of waiting tasks: 64 Ki places for each 16 CPUs, as there are more of them on larger nodes; 8 bytes each.
_LEAST_WAIT_BITS = 16
_CPUS_A_TABLE = 16
_LOCKDOWN = Path("/sys/kernel/security/lockdown")


class TickLoad(ProgramLoad):
    """A load of the tick programs under way.

    `counted` says which counters will be open, `waits` whether waiting for a CPU is followed, and `wait_bits` the
    binary logarithm of the places for tasks that wait. The per-CPU tables are sized for all possible CPUs.
    """

    def __init__(
        self,
        *,
        tick_ns: int,
        counted: Sequence[bool],
        waits: bool = True,
        wait_bits: int | None = None,
        extra_functions: Sequence[str] = (),
    ) -> None:
        self.tick_ns = tick_ns
        self.waits = waits
        # The numbers can have gaps.
        self.cpus = possible_cpus()[-1] + 1
        if wait_bits is None:
            wait_bits = _LEAST_WAIT_BITS + ((self.cpus - 1) // _CPUS_A_TABLE).bit_length()
        super().__init__(
            LoadSpec(
                source="cgroup_ticks.c",
                functions=_FUNCTIONS
                | (_WAIT_FUNCTIONS if waits else {})
                | dict.fromkeys(extra_functions, "RAW_TRACEPOINT"),
                maps=(*_MAPS, *(("waiting",) if waits else ())),
                definitions={
                    "TICK_NS": f"{tick_ns}ULL",
                    "CPUS": str(self.cpus),
                    "COUNTED": str(sum(1 << index for index, is_open in enumerate(counted) if is_open)),
                    "RING_PAGES": str(_TEMPLATE_PAGES),
                    **({"WAIT_BITS": str(wait_bits)} if waits else {}),
                },
                # Costs nearly as much as the waits themselves: what is left out with them is as cheap as can be.
                optional=_kernel_offsets() if waits else {},
            )
        )


def why_stolen_time_is_untold() -> str:
    """The reason, for people, where the programs were loaded without EXEC_RUNTIME."""
    if _is_locked_down():
        return "the kernel is locked down (confidentiality), and does not let its memory be read"
    if not _kernel_offsets():
        return "the kernel shows no type information (BTF) that has what it takes"
    return "the kernel does not let its memory be read (bpf_probe_read_kernel)"


def _kernel_offsets() -> dict[str, str]:
    """The definitions of the offsets by which the kernel's memory is read; none where it shows or allows none."""
    if _is_locked_down():
        return {}
    try:
        members = member_offsets(read_kernel_btf(), {"sched_entity", *(struct for struct, _field in _OFFSETS.values())})
        offsets = {name: members[struct][field] for name, (struct, field) in _OFFSETS.items()}
        offsets[EXEC_RUNTIME] += members["sched_entity"]["sum_exec_runtime"]
    except (NodeUnsupportedError, KeyError):
        return {}
    return {name: str(offset) for name, offset in offsets.items()}


def _is_locked_down() -> bool:
    try:
        return "[confidentiality]" in _LOCKDOWN.read_text()
    except OSError:
        return False
