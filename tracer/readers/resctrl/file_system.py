# SPDX-License-Identifier: Apache-2.0
"""What a mounted resctrl file system offers, and which groups there are.

A path of a group is from the root of the file system: `/` is the root group, `/<name>` another control group
(CTRL_MON), `[/<name>]/mon_groups/<name>` a monitoring group (MON).
"""

import re
from pathlib import Path
from typing import NamedTuple

from tracer.errors import NodeUnsupportedError

_FEATURES = ("llc_occupancy", "mbm_total_bytes", "mbm_local_bytes")
_DOMAIN = re.compile(r"mon_L3_([0-9]{1,9})")
_NOT_GROUPS = frozenset({"info", "mon_data", "mon_groups"})


class Monitoring(NamedTuple):
    """What can be monitored: the events of _FEATURES that there are, and how many groups at most, the root with it."""

    features: tuple[str, ...]
    num_rmids: int


class Assignment(NamedTuple):
    """The groups that a thread is in, by name: `/` is the root group, an empty `monitor` none but its control group."""

    control: str
    monitor: str


class ResctrlFileSystem:
    """The file system mounted at `root`; `proc` is where the kernel tells of a thread's groups."""

    def __init__(self, root: Path, proc: Path = Path("/proc")) -> None:
        self.root = root
        self._proc = proc

    def monitoring(self) -> Monitoring:
        """What can be monitored. Raises NodeUnsupportedError where nothing can, or this is no resctrl file system."""
        info = self.root / "info/L3_MON"
        try:
            features = (info / "mon_features").read_text(errors="replace").split()
            num_rmids = int((info / "num_rmids").read_text(errors="replace"))
        except OSError as error:
            raise NodeUnsupportedError(
                f"resctrl at {self.root} cannot monitor the last-level cache: {error.strerror}: {error.filename}"
            ) from error
        except ValueError as error:
            raise NodeUnsupportedError(f"resctrl at {self.root}: num_rmids is no number") from error
        return Monitoring(tuple(feature for feature in _FEATURES if feature in features), num_rmids)

    def directory(self, group: str) -> Path:
        """Where the group is."""
        return self.root / group.lstrip("/")

    def domains(self) -> list[tuple[int, str]]:
        """L3 id and name of the directory in `mon_data` of each domain that is online.

        With sub-NUMA clustering a domain has a directory for each of its nodes inside; its own files are their sum.
        """
        names = _names(self.root / "mon_data")
        return sorted((int(match[1]), name) for name in names if (match := _DOMAIN.fullmatch(name)))

    def control_groups(self) -> list[str]:
        """Names of all control groups; `/` is the root group."""
        named = [name for name in _names(self.root) if name not in _NOT_GROUPS]
        return ["/", *(name for name in named if (self.root / name / "mon_groups").is_dir())]

    def monitoring_groups(self, control: str) -> list[str]:
        """Names of the monitoring groups of a control group."""
        return _names(self.directory(control) / "mon_groups")

    def count_groups(self) -> int:
        """All groups, the root group too: each holds an RMID."""
        return sum(1 + len(self.monitoring_groups(control)) for control in self.control_groups())

    def assignment(self, tid: int) -> Assignment | None:
        """The groups of a thread; None if it has ended, or the kernel does not say (it is in a pseudo-locked group).

        `res:<control group>` and `mon:<monitoring group>` (proc_resctrl_show()), since Linux kernel commit
        e79f15a4598c ("x86/resctrl: Add task resctrl information display") (in v5.6).
        """
        try:
            text = (self._proc / str(tid) / "cpu_resctrl_groups").read_text(errors="surrogateescape")
        except OSError:
            return None
        match = re.fullmatch(r"res:([^\n]+)\nmon:([^\n]*)\n?", text)
        return Assignment(match[1], match[2]) if match else None


def group_path(control: str, monitor: str) -> str:
    """The path of a monitoring group, or of the control group itself where `monitor` is empty."""
    above = "" if control == "/" else f"/{control}"
    return f"{above}/mon_groups/{monitor}" if monitor else above or "/"


def _names(directory: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in directory.iterdir())
    except OSError:
        return []
