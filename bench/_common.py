# SPDX-License-Identifier: Apache-2.0
"""What the benches share: the machine before any number, and a last line for each mark."""

import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

from tracer.kernel.cpus import online_cpus
from tracer.kernel.topology import read_topology

_PREFERRED = -10


def need_root() -> None:
    """Ends the bench where it cannot load BPF programs."""
    if os.geteuid() != 0:
        sys.exit("this bench loads BPF programs: run it as root")


def prefer(session: int) -> None:
    """Lets this process, and others of the session that it leads, run before what else the machine has to do."""
    os.setpriority(os.PRIO_PGRP, session, _PREFERRED)
    # Where sessions share the CPUs, that has an effect among the processes of one only (sched(7), autogroup).
    with suppress(FileNotFoundError):
        Path(f"/proc/{session}/autogroup").write_text(str(_PREFERRED))


def print_machine() -> None:
    """Processor, kernel and CPUs."""
    model = read_topology().cpu_model.name or platform.machine()
    print(f"machine: {model}, {len(online_cpus())} CPUs online, Linux {os.uname().release} {platform.machine()}")


def print_mark(name: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
    """The verdict on one promise, of which exactly one bound is given."""
    if at_least is not None:
        met, mark = value >= at_least, f">= {at_least:g}"
    else:
        assert at_most is not None
        met, mark = value <= at_most, f"<= {at_most:g}"
    print(f"{name}: {value:.4g}, mark {mark}, {'met' if met else 'missed'}")
