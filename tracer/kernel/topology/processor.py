# SPDX-License-Identifier: Apache-2.0
"""The processor's model, the machine it is in, and whether a hypervisor lies between them."""

import re
from pathlib import Path

import msgspec

from tracer.kernel.topology.files import harmless, read_name, read_text

# Resource monitoring and allocation, a clock that is the same at every frequency and in sleep, counters of the real
# frequency and of AMD's caches (arch/x86/include/asm/cpufeatures.h).
_FLAGS = {
    "cqm_llc", "cqm_occup_llc", "cqm_mbm_total", "cqm_mbm_local", "rdt_a", "cat_l3", "cdp_l3", "mba",
    "constant_tsc", "nonstop_tsc", "aperfmperf", "arch_perfmon", "perfmon_v2", "perfctr_core", "perfctr_llc",
}  # fmt: skip


class CpuModel(msgspec.Struct, frozen=True):
    """The first processor of /proc/cpuinfo.

    On arm64, vendor is the implementer's code, family the architecture, model the part number, and stepping
    holds variant and revision as 0xVR; there is no name. `hypervisor` is its name, `none`, or `unknown` for
    one that is there and does not say. `flags` are those of x86 that bear on what can be measured.
    """

    vendor: str | None
    family: int | None
    model: int | None
    stepping: int | None
    name: str | None
    microcode: str | None
    hypervisor: str | None
    flags: list[str] | None = None


class Machine(msgspec.Struct, frozen=True):
    """Who made the machine, real or virtual, and what they call it; never its serial numbers."""

    vendor: str | None
    product: str | None


def read_cpu_model(sysfs: Path, procfs: Path) -> CpuModel:
    """Of processors of several kinds in one node, the first one's."""
    fields = _first_processor(procfs / "cpuinfo")
    variant, revision = _integer(fields.get("CPU variant")), _integer(fields.get("CPU revision"))
    midr_stepping = None if variant is None or revision is None else variant << 4 | revision
    return CpuModel(
        vendor=harmless(fields.get("vendor_id", fields.get("CPU implementer"))),
        family=_integer(fields.get("cpu family", fields.get("CPU architecture"))),
        model=_integer(fields.get("model", fields.get("CPU part"))),
        stepping=_integer(fields["stepping"]) if "stepping" in fields else midr_stepping,
        name=harmless(fields.get("model name")),
        microcode=harmless(fields.get("microcode")),
        hypervisor=_hypervisor(sysfs, fields),
        flags=sorted(_FLAGS.intersection(fields["flags"].split())) if "flags" in fields else None,
    )


def read_machine(sysfs: Path) -> Machine:
    """From the firmware's tables (DMI), which not every architecture has."""
    return Machine(
        vendor=read_name(sysfs / "class/dmi/id/sys_vendor"), product=read_name(sysfs / "class/dmi/id/product_name")
    )


def _first_processor(cpuinfo: Path) -> dict[str, str]:
    """Stops at the first blank line: on a large machine the whole file takes long to make."""
    fields: dict[str, str] = {}
    try:
        with cpuinfo.open(errors="replace") as lines:
            for line in lines:
                key, colon, value = line.partition(":")
                if colon:
                    fields[key.strip()] = value.strip()
                elif fields:
                    break
    except OSError:
        return {}
    return fields


def _hypervisor(sysfs: Path, fields: dict[str, str]) -> str | None:
    """Xen names itself, KVM and Hyper-V show by their clock sources, others by a CPU flag without a name."""
    named = read_name(sysfs / "hypervisor/type")
    if named:
        return named
    sources = read_text(sysfs / "devices/system/clocksource/clocksource0/available_clocksource") or ""
    if "kvm-clock" in sources:
        return "kvm"
    if "hyperv" in sources:
        return "hyperv"
    if "flags" not in fields:
        return None
    return "unknown" if "hypervisor" in fields["flags"].split() else "none"


def _integer(text: str | None) -> int | None:
    match = re.fullmatch(r"0x[0-9a-fA-F]{1,8}|[0-9]{1,9}", text or "")
    return int(match[0], 0 if match[0].startswith("0x") else 10) if match else None
