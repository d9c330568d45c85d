# SPDX-License-Identifier: Apache-2.0
"""What the resctrl file system allows, where it is mounted: Documentation/filesystems/resctrl.rst."""

import re
from pathlib import Path
from typing import Literal

import msgspec

from tracer.kernel.topology.files import harmless, read_number, read_text
from tracer.mounts import mounts_of

_NOT_GROUPS = {"info", "mon_data", "mon_groups"}
_L3_DIRECTORY = re.compile(r"mon_L3_([0-9]{1,9})")


class Resctrl(msgspec.Struct, frozen=True, kw_only=True):
    """All but `state` is None where it is not mounted, and otherwise where the processor has no such thing.

    `num_closids` bounds the control groups, `num_rmids` control and monitoring groups together, each with the root's
    own. `l3_ids` are the domains of monitoring; of the sub-NUMA clusters, `snc_nodes_per_l3` share one. The groups are
    those that exist now, `control_groups` without the root.
    """

    state: Literal["mounted", "not mounted", "not supported"]
    mount_point: str | None = None
    options: str | None = None
    num_closids: int | None = None
    num_rmids: int | None = None
    mon_features: list[str] | None = None
    max_threshold_occupancy_bytes: int | None = None
    mbm_assign_mode: str | None = None
    l3_ids: list[int] | None = None
    snc_nodes_per_l3: int | None = None
    control_groups: list[str] | None = None
    monitoring_groups: int | None = None


def read_resctrl(procfs: Path) -> Resctrl:
    """The kernel lists the file system in `/proc/filesystems` only where the processor can monitor or allocate."""
    mount = next(iter(mounts_of("resctrl", read_text(procfs / "self/mounts") or "")), None)
    if mount is None:
        supported = "resctrl" in (read_text(procfs / "filesystems") or "").split()
        return Resctrl(state="not mounted" if supported else "not supported")
    root = Path(mount.mount_point)
    monitoring = root / "info/L3_MON"
    features = read_text(monitoring / "mon_features")
    groups = [name for name in _directories(root) if name not in _NOT_GROUPS]
    # The smallest binds: a group takes one of each resource.
    closids = [read_number(root / "info" / name / "num_closids") for name in _directories(root / "info")]
    l3_domains = [name for name in _directories(root / "mon_data") if _L3_DIRECTORY.fullmatch(name)]
    return Resctrl(
        state="mounted",
        mount_point=harmless(mount.mount_point),
        options=harmless(mount.options),
        num_closids=min((number for number in closids if number is not None), default=None),
        num_rmids=read_number(monitoring / "num_rmids"),
        mon_features=None if features is None else [name for name in map(harmless, features.split()) if name],
        max_threshold_occupancy_bytes=read_number(monitoring / "max_threshold_occupancy"),
        mbm_assign_mode=_chosen(read_text(monitoring / "mbm_assign_mode")),
        l3_ids=sorted(int(name.removeprefix("mon_L3_")) for name in l3_domains) or None,
        snc_nodes_per_l3=_sub_nodes(root / "mon_data", l3_domains),
        control_groups=[name for name in map(harmless, groups) if name],
        monitoring_groups=sum(len(_directories(root / group / "mon_groups")) for group in ("", *groups)),
    )


def _sub_nodes(mon_data: Path, l3_domains: list[str]) -> int | None:
    """Each domain has a directory for each cluster where there are several (in v6.11)."""
    counts = [sum(name.startswith("mon_sub_L3_") for name in _directories(mon_data / domain)) for domain in l3_domains]
    return max(1, *counts) if counts else None


def _chosen(modes: str | None) -> str | None:
    """The mode in brackets."""
    match = re.search(r"\[([^]]+)\]", modes or "")
    return harmless(match[1]) if match else None


def _directories(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in path.iterdir() if entry.is_dir())
    except (OSError, ValueError):
        return []
