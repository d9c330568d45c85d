# SPDX-License-Identifier: Apache-2.0
"""The readers that a run's options ask for, and how often each reads."""

from collections.abc import Callable
from pathlib import Path

from tracer.pipeline.options import RunOptions
from tracer.pipeline.resctrl import open_resctrl
from tracer.readers.block_devices import BlockDevices
from tracer.readers.io_devices import IoDevicesReader
from tracer.readers.processes import ProcessesReader
from tracer.readers.protocol import Reader
from tracer.readers.pss import PssSums
from tracer.readers.resources import ResourcesReader

_RESCTRL_INTERVAL_NS = 1_000_000_000
# Of a CPU, for the memory of the processes.
_SHARE_OF_PROCESSES = 0.02


def chosen_readers(options: RunOptions, cgroup_root: Path, note: Callable[[str], None]) -> list[tuple[Reader, int]]:
    """Each with its interval in ns. `note` takes why one that was asked for cannot be had."""
    pss = PssSums()
    devices = BlockDevices()
    readers: list[tuple[Reader, int]] = [(ResourcesReader(cgroup_root, pss, devices), options.resources_interval_ns)]
    if options.io:
        readers.append((IoDevicesReader(cgroup_root, devices), options.resources_interval_ns))
    if options.processes_interval_ns is not None:
        processes = ProcessesReader(
            cgroup_root,
            pss,
            largest_bytes=options.processes_max_rss_bytes,
            budget_ns=int(options.processes_interval_ns * _SHARE_OF_PROCESSES),
            with_regions=options.regions,
        )
        readers.append((processes, options.processes_interval_ns))
    resctrl = open_resctrl(options.resctrl, cgroup_root, note, told_to_mount=options.resctrl_mount)
    if resctrl is not None:
        readers.append((resctrl, _RESCTRL_INTERVAL_NS))
    return readers
