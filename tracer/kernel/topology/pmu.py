# SPDX-License-Identifier: Apache-2.0
"""The core PMUs, and what the generic hardware events really count on them.

`cache-misses` is misses of the last-level cache on one processor, of level 2 or even level 1 on another. The kernel
shows what it programs in the PMU's `events` (Documentation/ABI/testing/sysfs-bus-event_source-devices-events): on x86
under the generic names (arch/x86/events/core.c, events_attrs), on arm64 under the architecture's (drivers/perf/
arm_pmuv3.c, armv8_pmuv3_perf_map tells which is which). It shows no encoding of the generic cache events
(LLC-load-misses).
"""

from pathlib import Path

import msgspec

from tracer.kernel.event_specs import PERF_TYPE_HARDWARE, EventSpec
from tracer.kernel.topology.files import harmless, read_cpu_list, read_name, read_number

# By perf_hw_id: the name, and what the file is called on x86 and arm64.
_HARDWARE_EVENTS = {
    0: ("cycles", "cpu-cycles", "cpu_cycles"),
    1: ("instructions", "instructions", "inst_retired"),
    2: ("cache-references", "cache-references", "l1d_cache"),
    3: ("cache-misses", "cache-misses", "l1d_cache_refill"),
    5: ("branch-misses", "branch-misses", "br_mis_pred"),
    6: ("bus-cycles", "bus-cycles", "bus_cycles"),
    7: ("stalled-cycles-frontend", "stalled-cycles-frontend", "stall_frontend"),
    8: ("stalled-cycles-backend", "stalled-cycles-backend", "stall_backend"),
    9: ("ref-cycles", "ref-cycles"),
}


class PmuEvent(msgspec.Struct, frozen=True):
    """What an event is on one PMU.

    `name` is the kernel's for it there, `encoding` has the terms it programs, such as `event=0x2e,umask=0x41`.
    """

    name: str
    encoding: str


class Pmu(msgspec.Struct, frozen=True):
    """A core PMU. `type` is the one of perf_event_attr, `events` those generic ones whose encoding it shows.

    `cpus` are the CPUs that it is in where a node has cores of several kinds; None: all of them.
    """

    name: str
    type: int | None
    cpus: str | None
    events: dict[str, PmuEvent]


def read_pmus(sysfs: Path = Path("/sys")) -> list[Pmu]:
    """The processor's own PMUs, by name: `cpu`, or one for each kind of core, which then lists its `cpus`."""
    try:
        devices = sorted((sysfs / "bus/event_source/devices").iterdir())
    except OSError:
        return []
    return [
        Pmu(
            name=harmless(device.name) or "",
            type=read_number(device / "type"),
            cpus=read_cpu_list(device / "cpus"),
            events=_events(device / "events"),
        )
        for device in devices
        if device.name == "cpu" or (device / "cpus").exists()
    ]


def encodings(pmus: list[Pmu], spec: EventSpec) -> dict[str, PmuEvent]:
    """What a hardware event is, by PMU; nothing where the kernel does not tell.

    Nothing either for events of other types: a raw one is its own encoding, software has none.
    """
    if spec.type != PERF_TYPE_HARDWARE or spec.config not in _HARDWARE_EVENTS:
        return {}
    name = _HARDWARE_EVENTS[spec.config][0]
    return {pmu.name: pmu.events[name] for pmu in pmus if name in pmu.events}


def _events(directory: Path) -> dict[str, PmuEvent]:
    events = {}
    for name, *files in _HARDWARE_EVENTS.values():
        for file in files:
            encoding = read_name(directory / file)
            if encoding is not None:
                events[name] = PmuEvent(file, encoding)
                break
    return events
