# SPDX-License-Identifier: Apache-2.0
"""What a node has that a tracer can use, as labels for Node Feature Discovery.

Of a local feature file there are lines `KEY=VALUE` and comments; files are read each minute, those whose names begin
with a dot are not, and none above 64 KiB. The key is a label's, in a namespace that every version of Node Feature
Discovery allows without being told. A feature that is not known has no line: false and 0 are what was found.
"""

import os
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from tracer.containers.version1 import is_hybrid
from tracer.errors import TracerError
from tracer.kernel.btf import KERNEL_BTF
from tracer.kernel.counter_plan import CounterPlan, plan_counters
from tracer.kernel.cpus import online_cpus
from tracer.kernel.event_specs import COUNTER_COLUMNS, parse_events
from tracer.kernel.perf_events import HELD_BY_OTHERS, open_tick
from tracer.kernel.topology import Topology
from tracer.kernel.topology.processor import CpuModel
from tracer.kernel.topology.resctrl import Resctrl

PREFIX: Final = "feature.node.kubernetes.io/tracer-"

_TICK_NS: Final = 1_000_000
# What resctrl's files are called, and the processor's flags of the same (arch/x86/kernel/cpu/resctrl/core.c,
# get_rdt_mon_resources()); other processors tell it only by resctrl.
_MONITORING: Final = {
    "llc-occupancy": ("llc_occupancy", "cqm_occup_llc"),
    "mbm-total": ("mbm_total_bytes", "cqm_mbm_total"),
    "mbm-local": ("mbm_local_bytes", "cqm_mbm_local"),
}
_TECHNOLOGIES: Final = {"GenuineIntel": "rdt", "AuthenticAMD": "pqos", "HygonGenuine": "pqos"}

Feature = bool | int | str | None


class Events(NamedTuple):
    """By counter column whether it counts, None where that is not known, and why in words that go into the file."""

    counts: Mapping[str, bool | None]
    unknown: tuple[str, ...] = ()


def try_events() -> Events:
    """Tries the three default events on each CPU for some milliseconds, as a run does before it starts."""
    try:
        # What may not be opened at all says nothing of the PMU.
        os.close(open_tick(online_cpus()[0], _TICK_NS))
        return judge_events(plan_counters(parse_events(())))
    except TracerError as error:
        return Events(dict.fromkeys(COUNTER_COLUMNS), (f"events were not tried: {error}",))


def judge_events(plan: CounterPlan) -> Events:
    """What a trial says of each event; one that somebody else holds, or that had nothing to count, may count."""
    counts: dict[str, bool | None] = {}
    unknown: list[str] = []
    for index, (spec, reason) in enumerate(zip(plan.specs, plan.reasons, strict=True)):
        if reason is None and any(of_cpu.has_counted[index] for of_cpu in plan.cpus.values()):
            counts[spec.column] = True
        elif reason in (None, HELD_BY_OTHERS):
            counts[spec.column] = None
            unknown.append(f"{spec.text}: {reason or 'it can be opened, but counted nothing in a short trial'}")
        else:
            counts[spec.column] = False
    return Events(counts, tuple(unknown))


def node_features(topology: Topology, *, has_cgroup2: bool, events: Events) -> dict[str, Feature]:
    """By name without the prefix."""
    version = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", os.uname().release)
    return {
        "llc-domains": _llc_domains(topology),
        "pmu": bool(topology.pmus),
        **{f"event-{column.replace('_', '-')}": counts for column, counts in events.counts.items()},
        **_resctrl(topology.resctrl, topology.cpu_model),
        "btf": KERNEL_BTF.exists(),
        "cgroup": ("hybrid" if is_hybrid() else "v2") if has_cgroup2 else "v1",
        "kernel-major": int(version[1]) if version else None,
        "kernel-minor": int(version[2]) if version else None,
    }


def feature_file(features: Mapping[str, Feature], notes: tuple[str, ...] = ()) -> str:
    """The text of a local feature file, `notes` as comments. Only what is legal in a label's value may be a feature."""
    lines = ["What `tracer topology --nfd` found of this node.", *(" ".join(note.split()) for note in notes)]
    known = ((name, value) for name, value in features.items() if value is not None)
    return "".join(
        [
            *(f"# {line}\n" for line in lines),
            *(f"{PREFIX}{name}={str(value).lower() if isinstance(value, bool) else value}\n" for name, value in known),
        ]
    )


def _llc_domains(topology: Topology) -> int | None:
    """None where the node does not show the caches of all of its CPUs."""
    domains = topology.llc_domains
    return len(domains) if domains and all(domain.level is not None for domain in domains) else None


def _resctrl(resctrl: Resctrl, processor: CpuModel) -> dict[str, Feature]:
    """Limits are told only where it is mounted."""
    supported = resctrl.state != "not supported"
    technology = "mpam" if os.uname().machine == "aarch64" else _TECHNOLOGIES.get(processor.vendor or "")
    return {
        "resctrl": resctrl.state.replace(" ", "-"),
        "resctrl-technology": technology if supported else None,
        **{
            f"resctrl-{name}": _monitors(resctrl, processor, *called) if supported else False
            for name, called in _MONITORING.items()
        },
        "resctrl-rmids": resctrl.num_rmids,
        "resctrl-closids": resctrl.num_closids,
    }


def _monitors(resctrl: Resctrl, processor: CpuModel, file: str, flag: str) -> bool | None:
    if resctrl.state == "mounted":
        return file in (resctrl.mon_features or ())
    return None if processor.flags is None else flag in processor.flags
