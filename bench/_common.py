# SPDX-License-Identifier: Apache-2.0
"""What the benches share: the machine before any number, and a last line for each mark."""

import os
import platform
import sys

from tracer.kernel.cpus import online_cpus
from tracer.kernel.topology import read_topology


def need_root() -> None:
    """Ends the bench where it cannot load BPF programs."""
    if os.geteuid() != 0:
        sys.exit("this bench loads BPF programs: run it as root")


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
