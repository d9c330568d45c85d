# SPDX-License-Identifier: Apache-2.0
"""Who sets the processor's frequency, and between which bounds: Documentation/admin-guide/pm/cpufreq.rst.

Cycles per second of CPU time follow the frequency, so two nodes, or two hours of one, compare only with this at hand.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from tracer.kernel.cpus import format_cpu_list, parse_cpu_list
from tracer.kernel.topology.files import read_name, read_number, read_numbers, read_switch


class FrequencyPolicy(msgspec.Struct, frozen=True):
    """Online CPUs whose policies say the same; frequencies in kHz.

    `min_khz` and `max_khz` bound the governor, `hardware_…` the processor; `base_khz` is the frequency without
    turbo. `energy_preference` is what the processor itself is told where it chooses the frequency.
    """

    cpus: str
    driver: str | None
    governor: str | None
    min_khz: int | None
    max_khz: int | None
    hardware_min_khz: int | None
    hardware_max_khz: int | None
    base_khz: int | None
    energy_preference: str | None


def read_turbo(system: Path) -> bool | None:
    """Whether frequencies above the base are allowed; None where the driver has no such switch."""
    forbidden = read_switch(system / "cpu/intel_pstate/no_turbo")
    return read_switch(system / "cpu/cpufreq/boost") if forbidden is None else not forbidden


def read_frequency_policies(system: Path) -> list[FrequencyPolicy] | None:
    """By first CPU; None where the kernel sets no frequency, as in most virtual machines."""
    cpus_of_policy: dict[FrequencyPolicy, list[int]] = {}
    for directory in (system / "cpu/cpufreq").glob("policy[0-9]*"):
        # Of a policy whose CPUs are all offline the list is empty.
        if cpus := read_numbers(directory / "affected_cpus"):
            cpus_of_policy.setdefault(_policy(directory), []).extend(cpus)
    policies = (msgspec.structs.replace(policy, cpus=format_cpu_list(cpus)) for policy, cpus in cpus_of_policy.items())
    return sorted(policies, key=lambda policy: parse_cpu_list(policy.cpus)) or None


def highest_khz(policies: Iterable[FrequencyPolicy], turbo: bool | None) -> dict[int, int]:
    """By CPU the highest frequency that it can have, where that is known.

    Not while turbo is forbidden: the files have the highest without it then, and it may be allowed at any moment.
    """
    found: dict[int, int] = {}
    for policy in policies if turbo is not False else ():
        # Before Linux kernel commit 3c55e94c0ade ("cpufreq: ACPI: Extend frequency tables to cover boost frequencies")
        # (in v5.11) this driver says the highest without turbo.
        if policy.hardware_max_khz and not (policy.driver == "acpi-cpufreq" and turbo):
            found |= dict.fromkeys(parse_cpu_list(policy.cpus), policy.hardware_max_khz)
    return found


def _policy(directory: Path) -> FrequencyPolicy:
    return FrequencyPolicy(
        cpus="",
        driver=read_name(directory / "scaling_driver"),
        governor=read_name(directory / "scaling_governor"),
        min_khz=read_number(directory / "scaling_min_freq"),
        max_khz=read_number(directory / "scaling_max_freq"),
        hardware_min_khz=read_number(directory / "cpuinfo_min_freq"),
        hardware_max_khz=read_number(directory / "cpuinfo_max_freq"),
        base_khz=read_number(directory / "base_frequency"),
        energy_preference=read_name(directory / "energy_performance_preference"),
    )
