# SPDX-License-Identifier: Apache-2.0
"""What `--event NAME=SPEC` means: which perf event fills which counter column.

Numbers are those of `enum perf_type_id`, `perf_hw_id`, `perf_hw_cache_id` and `perf_sw_ids` in the kernel's
include/uapi/linux/perf_event.h; names are the ones `perf list` shows.
"""

import re
from collections.abc import Iterable
from typing import Literal, get_args

import msgspec

from tracer.errors import UsageError
from tracer.suggestions import close_to, not_among

PERF_TYPE_HARDWARE = 0
PERF_TYPE_SOFTWARE = 1
PERF_TYPE_HW_CACHE = 3
PERF_TYPE_RAW = 4
PERF_COUNT_SW_CPU_CLOCK = 0
# Since Linux kernel commit 55bcf6ef314a ("perf: Extend PERF_TYPE_HARDWARE and PERF_TYPE_HW_CACHE") (in v5.13).
_PMU_TYPE_SHIFT = 32

_HARDWARE = {
    "cycles": 0,
    "cpu-cycles": 0,
    "instructions": 1,
    "cache-references": 2,
    "cache-misses": 3,
    "branches": 4,
    "branch-instructions": 4,
    "branch-misses": 5,
    "bus-cycles": 6,
    "stalled-cycles-frontend": 7,
    "stalled-cycles-backend": 8,
    "ref-cycles": 9,
}
# Without dummy (9) and bpf-output (10), which count nothing.
_SOFTWARE = {
    "cpu-clock": PERF_COUNT_SW_CPU_CLOCK,
    "task-clock": 1,
    "page-faults": 2,
    "context-switches": 3,
    "cpu-migrations": 4,
    "minor-faults": 5,
    "major-faults": 6,
    "alignment-faults": 7,
    "emulation-faults": 8,
    "cgroup-switches": 11,
}
# Cache -> (number, operations that exist for it).
_CACHES = {
    "L1-dcache": (0, ("load", "store", "prefetch")),
    "L1-icache": (1, ("load", "prefetch")),
    "LLC": (2, ("load", "store", "prefetch")),
    "dTLB": (3, ("load", "store", "prefetch")),
    "iTLB": (4, ("load",)),
    "branch": (5, ("load",)),
    "node": (6, ("load", "store", "prefetch")),
}
# Operation -> (number, plural).
_OPERATIONS = {"load": (0, "loads"), "store": (1, "stores"), "prefetch": (2, "prefetches")}
_MISS = 1 << 16
# What goes on whenever a CPU works: cycles, instructions, ref-cycles; cpu-clock, task-clock.
_STEADY = {PERF_TYPE_HARDWARE: (0, 1, 9), PERF_TYPE_SOFTWARE: (PERF_COUNT_SW_CPU_CLOCK, 1)}

_RAW = re.compile(r"r([0-9a-fA-F]{1,16})")
_ACCEPTED = "accepted: perf's hardware and cache events (LLC-load-misses), raw codes (r412e), software:cpu-clock"
_COLUMN_ALIASES = {"cache_misses": "llc_misses"}
_DEFAULTS = {"cycles": "cycles", "instructions": "instructions", "llc_misses": "cache-misses"}

CounterColumn = Literal["cycles", "instructions", "llc_misses"]
COUNTER_COLUMNS: tuple[CounterColumn, ...] = get_args(CounterColumn)


class EventSpec(msgspec.Struct, frozen=True):
    """A counter column, the event that fills it, and that event's `type` and `config` in perf_event_attr."""

    column: CounterColumn
    text: str
    type: int
    config: int


def on_pmu(spec: EventSpec, pmu_type: int) -> EventSpec:
    """The event as one of several core PMUs knows it, which has this `type` in sysfs: no other one will count it.

    A raw code means something else on each PMU, and is of that PMU's type.
    """
    if spec.type == PERF_TYPE_RAW:
        return msgspec.structs.replace(spec, type=pmu_type)
    if spec.type in (PERF_TYPE_HARDWARE, PERF_TYPE_HW_CACHE):
        return msgspec.structs.replace(spec, config=spec.config | pmu_type << _PMU_TYPE_SHIFT)
    return spec


def is_steady(spec: EventSpec) -> bool:
    """Whether it counts whenever a CPU works, so that a zero can be no reading of it."""
    return spec.config & (1 << _PMU_TYPE_SHIFT) - 1 in _STEADY.get(spec.type, ())


def is_processors_own(spec: EventSpec, name: str) -> bool:
    """Whether it is the hardware event of this name, whatever PMU it is for."""
    return spec.type == PERF_TYPE_HARDWARE and spec.config & (1 << _PMU_TYPE_SHIFT) - 1 == _HARDWARE[name]


def _cache_events() -> dict[str, int]:
    events = {}
    for cache, (cache_number, operations) in _CACHES.items():
        for operation in operations:
            number, plural = _OPERATIONS[operation]
            config = cache_number | number << 8
            events[f"{cache}-{plural}"] = config
            events[f"{cache}-{operation}-misses"] = config | _MISS
    return events


_EVENTS = (
    {name: (PERF_TYPE_HARDWARE, config) for name, config in _HARDWARE.items()}
    | {name: (PERF_TYPE_HW_CACHE, config) for name, config in _cache_events().items()}
    | {f"software:{name}": (PERF_TYPE_SOFTWARE, config) for name, config in _SOFTWARE.items()}
)
_NAME_OF_FOLDED = {name.casefold(): name for name in _EVENTS}


def parse_event(option: str) -> EventSpec:
    """One `NAME=SPEC`; names are read without regard to case. Raises UsageError."""
    column_text, _, text = (part.strip() for part in option.partition("="))
    if not column_text or not text:
        raise UsageError(f"--event wants NAME=SPEC, not {option!r} (example: llc_misses=LLC-load-misses)")
    wanted = column_text.casefold().replace("-", "_")
    wanted = _COLUMN_ALIASES.get(wanted, wanted)
    column = next((column for column in COUNTER_COLUMNS if column == wanted), None)
    if column is None:
        raise UsageError(f"--event: {not_among('counter', column_text, COUNTER_COLUMNS)}")

    raw = _RAW.fullmatch(text)
    if raw:
        return EventSpec(column, text, PERF_TYPE_RAW, int(raw[1], 16))
    name = _NAME_OF_FOLDED.get(text.casefold())
    if name is None:
        # A program's own event is often meant that has the same name.
        known = (f"software:{text}",) if f"software:{text}" in _EVENTS else _EVENTS
        raise UsageError(f"--event: no event {text!r}{close_to(text, known)}; {_ACCEPTED}")
    return EventSpec(column, name, *_EVENTS[name])


def parse_events(options: Iterable[str]) -> tuple[EventSpec, ...]:
    """The event of each of COUNTER_COLUMNS, in that order, the user's or the default. Raises UsageError."""
    chosen: dict[str, EventSpec] = {}
    for option in options:
        spec = parse_event(option)
        if spec.column in chosen:
            raise UsageError(f"--event: {spec.column} is given twice, as {chosen[spec.column].text} and {spec.text}")
        chosen[spec.column] = spec
    return tuple(chosen.get(column) or parse_event(f"{column}={text}") for column, text in _DEFAULTS.items())
