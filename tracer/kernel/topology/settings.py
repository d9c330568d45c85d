# SPDX-License-Identifier: Apache-2.0
"""Settings of the kernel that bear on what is measured: Documentation/admin-guide/sysctl/kernel.rst."""

import re
from pathlib import Path

import msgspec

from tracer.kernel.topology.files import harmless, read_switch, read_text


class KernelSettings(msgspec.Struct, frozen=True):
    """`nmi_watchdog` holds a counter of each CPU while it is on.

    `mitigations` is what the command line says of them; None: nothing, so the kernel's default.
    """

    perf_event_paranoid: int | None
    nmi_watchdog: bool | None
    mitigations: str | None


def read_settings(procfs: Path) -> KernelSettings:
    """As they are now."""
    paranoid = re.fullmatch(r"-?[0-9]{1,9}", read_text(procfs / "sys/kernel/perf_event_paranoid") or "")
    mitigations = re.search(r"(?:^|\s)mitigations=(\S+)", read_text(procfs / "cmdline") or "")
    return KernelSettings(
        perf_event_paranoid=int(paranoid[0]) if paranoid else None,
        nmi_watchdog=read_switch(procfs / "sys/kernel/nmi_watchdog"),
        mitigations=harmless(mitigations[1]) if mitigations else None,
    )
