# SPDX-License-Identifier: Apache-2.0
"""When a limit of CPU time (cpu.max) kept a cgroup from a CPU, as the kernel does it.

`bpf_programs/cgroup_throttling.c` on two kprobes. It needs kprobes and type information, and a kernel that lets its
memory be read; the functions are there from v5.10 on at least, to which each of them was looked up.
"""

import mmap
import os
import platform
from typing import Self

import numpy as np
import numpy.typing as npt

from tracer.errors import NodeUnsupportedError, TracerError
from tracer.kernel.cgroup_events_load import CGROUP_ID_FIELDS, field_offsets
from tracer.kernel.event_ring import EventRing
from tracer.kernel.loader import LoadSpec, ProgramLoad, Programs
from tracer.kernel.perf_events import attach_program, enable, open_kprobe

THROTTLING = np.dtype([("begin_ns", np.uint64), ("end_ns", np.uint64), ("cgroup_id", np.uint64), ("cpu", np.uint64)])
"""`struct throttling` of bpf_programs/cgroup_throttling.c."""

_FUNCTIONS = {"throttle": "throttle_cfs_rq", "unthrottle": "unthrottle_cfs_rq"}
_FIELDS = CGROUP_ID_FIELDS | {
    "CFS_RQ_TG": ("cfs_rq", "tg"),
    "CFS_RQ_RQ": ("cfs_rq", "rq"),
    "RQ_CPU": ("rq", "cpu"),
    "TASK_GROUP_CSS": ("task_group", "css"),
    "CSS_CGROUP": ("cgroup_subsys_state", "cgroup"),
}
# `struct pt_regs` (arch/*/include/asm/ptrace.h): di on x86-64, x0 on arm64.
_FIRST_ARGUMENT = {"x86_64": 14, "aarch64": 0}
# 100 containers that are throttled ten times a second on each of 16 CPUs, for a second.
_RING_BYTES = 1 << 20


class Throttling:
    """What limits held up, on the whole node. One thread calls `read`; it has ended when `close` is called."""

    def __init__(self) -> None:
        """Begins to compile in a child. Raises NodeUnsupportedError where it cannot be."""
        argument = _FIRST_ARGUMENT.get(platform.machine())
        if argument is None:
            raise NodeUnsupportedError(f"a function's arguments are not known on {platform.machine()}")
        # Before the compiler is asked.
        for function in _FUNCTIONS.values():
            os.close(open_kprobe(function))
        self._load = ProgramLoad(
            LoadSpec(
                source="cgroup_throttling.c",
                functions=dict.fromkeys(_FUNCTIONS, "KPROBE"),
                maps=("throttlings", "lost"),
                definitions={
                    "RING_PAGES": str(_RING_BYTES // mmap.PAGESIZE),
                    "ARGUMENT": str(argument),
                    **field_offsets(_FIELDS),
                },
            )
        )
        self._programs: Programs | None = None
        self._ring: EventRing | None = None
        self._lost_map: mmap.mmap | None = None
        self._lost = 0
        self._probes: list[int] = []

    def start(self) -> None:
        """Waits for the compiler and attaches. Raises NodeUnsupportedError."""
        self._programs = self._load.result()
        try:
            self._ring = EventRing(self._programs["throttlings"], _RING_BYTES)
            self._lost_map = mmap.mmap(self._programs["lost"], mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)
            for program, function in _FUNCTIONS.items():
                self._probes.append(open_kprobe(function))
                attach_program(self._probes[-1], self._programs[program])
                enable(self._probes[-1])
        except (OSError, TracerError) as error:
            raise NodeUnsupportedError(f"the kernel does not tell of throttling: {error}") from error

    def read(self) -> npt.NDArray[np.void]:
        """What ended since the last call, by the kernel's clock: rows of THROTTLING."""
        if self._ring is None:
            return np.zeros(0, THROTTLING)
        return np.frombuffer(b"".join(self._ring.read_now()), THROTTLING)

    @property
    def lost(self) -> int:
        """How many are not told, for lack of room."""
        if self._lost_map is not None:
            self._lost = int.from_bytes(self._lost_map[:8], "little")
        return self._lost

    def close(self) -> None:
        """Detaches and gives everything back to the kernel. Can be called at any time and twice."""
        while self._probes:
            os.close(self._probes.pop())
        if self._lost_map is not None:
            self._lost = self.lost
            self._lost_map.close()
            self._lost_map = None
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        if self._programs is None:
            self._load.cancel()
        else:
            self._programs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
