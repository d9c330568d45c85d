# SPDX-License-Identifier: Apache-2.0
"""Memory, CPU, pressure, I/O and process counts of each cgroup, as the kernel's files have them: table `resources`."""

import os
import resource
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from tracer.readers.block_devices import BlockDevices
from tracer.readers.cgroup_files import COLUMNS, CgroupFiles, Values
from tracer.readers.cgroup_keys import AVERAGE_COLUMNS, IO_COLUMNS
from tracer.readers.protocol import Cgroup, Observation, Reader
from tracer.readers.pss import PssSums

_SETTINGS_NS = 10_000_000_000
_KINDS = frozenset({"container", "sandbox", "monitor", "pod", "qos", "unit", "other"})
# What the kernel holds for an open file that has been read: a page of text and 0.7 KB (bench/readers.py).
_KERNEL_BYTES_A_FILE = 4800
_SHARE_OF_MEMORY = 1 / 500
_RESTACKED = "resources: sums of io.stat are null once, and over other devices from here on: the node's disks changed"


def has_resources(cgroup: Cgroup) -> bool:
    """Whether a cgroup has rows of its own: all have but mounts, and what a container made inside itself."""
    return cgroup.kind in _KINDS and not cgroup.is_inner


class ResourcesReader(Reader):
    """A row of each cgroup that `has_resources`. What it has no file for, and `max`, is null.

    A key that `cgroup_keys` does not know is in the map `extra`. Files that people set (limits, weights) are read each
    10 s, and when a cgroup ends.
    """

    name = "resources"

    def __init__(
        self,
        root: Path,
        pss: PssSums | None = None,
        devices: BlockDevices | None = None,
        *,
        keep_open_at_most: int | None = None,
    ) -> None:
        """`root`: where the cgroup2 tree is mounted. `keep_open_at_most`: files; as many as suit the node if None."""
        at_most = _affordable_files() if keep_open_at_most is None else keep_open_at_most
        self._files = CgroupFiles(os.fsencode(root), keep_open_at_most=at_most)
        self._pss = pss
        self._devices = devices or BlockDevices()
        self._stacks = self._devices.stacks()
        self._settings_due_ns: dict[int, int] = {}
        self._seen: Sequence[Cgroup] | None = None
        self._unread = 0
        # What `read_ending` found and `take_looks` has not told yet: cgroups, and rows of those that ended once more.
        self._ended: list[int] = []
        self._ended_before: list[pl.DataFrame] = []

    def read(self, cgroups: Sequence[Cgroup]) -> Observation:
        """All of them. The same object as last time says that none came and none went."""
        if cgroups is not self._seen:
            self._follow(cgroups)
        now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        due = [cgroup_id for cgroup_id, due_ns in self._settings_due_ns.items() if due_ns <= now_ns]
        for cgroup_id in due:
            # Spread over the seconds by something that lasts: most cgroups are met at the start, all at once.
            is_new = self._settings_due_ns[cgroup_id] == 0
            share = cgroup_id % 10 + 1 if is_new else 10
            self._settings_due_ns[cgroup_id] = now_ns + _SETTINGS_NS * share // 10
        changes = self._stacks.changes
        rows = self._rows(list(self._settings_due_ns), due)
        sums = None if self._pss is None else self._pss.take()
        if sums is not None:
            rows = rows.join(sums, on="cgroup_id", how="left")
        notes = [_RESTACKED] if self._stacks.changes != changes else []
        return Observation({"resources": rows}, {"unread_cgroups": self._unread}, notes)

    def read_ending(self, cgroups: Sequence[Cgroup]) -> None:
        """A last row of those that still have files: their counters and peaks are final."""
        ending = []
        for cgroup in cgroups:
            if has_resources(cgroup):
                with suppress(OSError, ValueError):
                    self._open(cgroup)
                    ending.append(cgroup.cgroup_id)
        if not set(ending).isdisjoint(self._ended):
            self._ended_before.append(self._take_ended())
        # Over the devices of the last pass, whose sums these go on from.
        self._files.read(ending, with_settings=ending, without_devices=self._stacks.left_out)
        self._ended += ending

    def take_looks(self) -> Observation:
        """Rows of those that ended."""
        if not self._ended:
            return Observation({})
        rows = [*self._ended_before, self._take_ended()]
        self._ended_before.clear()
        return Observation({"resources": pl.concat(rows, how="diagonal")})

    def close(self) -> None:
        """Closes every file."""
        self._ended.clear()
        self._follow([])

    def _take_ended(self) -> pl.DataFrame:
        rows = _frame(self._files.values(self._ended))
        self._ended.clear()
        return rows

    def _rows(self, cgroup_ids: list[int], with_settings: list[int]) -> pl.DataFrame:
        before, self._stacks = self._stacks, self._devices.stacks()
        self._files.read(cgroup_ids, with_settings=with_settings, without_devices=self._stacks.left_out)
        rows = _frame(self._files.values(cgroup_ids))
        # A sum over other devices than before is no continuation of the last one.
        return rows if self._stacks.changes == before.changes else rows.drop(IO_COLUMNS, strict=False)

    def _follow(self, cgroups: Sequence[Cgroup]) -> None:
        """Opens those that came, closes those that went."""
        wanted = {cgroup.cgroup_id: cgroup for cgroup in cgroups if has_resources(cgroup)}
        for cgroup_id in self._settings_due_ns.keys() - wanted.keys():
            self._files.close(cgroup_id)
            del self._settings_due_ns[cgroup_id]
        self._seen = cgroups
        self._unread = 0
        for cgroup in wanted.values():
            try:
                self._open(cgroup)
            except FileNotFoundError:
                continue
            except (OSError, ValueError):
                self._unread += 1

    def _open(self, cgroup: Cgroup) -> None:
        if cgroup.cgroup_id not in self._settings_due_ns:
            self._files.open(cgroup.cgroup_id, cgroup.path)
            self._settings_due_ns[cgroup.cgroup_id] = 0


def _frame(found: Values) -> pl.DataFrame:
    columns: dict[str, npt.NDArray[Any] | pa.Array] = {
        "cgroup_id": found.cgroup_ids,
        "monotonic_ns": found.monotonic_ns,
    }
    # Of the table's type already: it has many columns. What does not fit is a sum that fell below zero in the kernel.
    values = found.values[: len(COLUMNS)].view(np.int64)
    is_null = ~found.is_valid[: len(COLUMNS)] | (values < 0)
    # Most nodes lack whole files; a column without any value is left out.
    for slot in np.flatnonzero(~is_null.all(axis=1)).tolist():
        name = COLUMNS[slot]
        column = (values[slot] / 100).astype(np.float32) if name in AVERAGE_COLUMNS else values[slot]
        columns[name] = pa.array(column, mask=is_null[slot])
    frame = cast(pl.DataFrame, pl.from_arrow(pa.table(columns)))
    if {"memory_current_bytes", "memory_inactive_file_bytes"} <= columns.keys():
        current, inactive = pl.col("memory_current_bytes"), pl.col("memory_inactive_file_bytes")
        # Two files, read one after the other: the part can be larger than the whole.
        frame = frame.with_columns(memory_working_set_bytes=(current - inactive).clip(lower_bound=0))
    return frame if not found.extra else frame.join(_extra(found), on="cgroup_id", how="left")


def _extra(found: Values) -> pl.DataFrame:
    """Keys and values of what is beyond COLUMNS, a list of pairs for each cgroup that has any."""
    extra, cgroup = np.nonzero(found.is_valid[len(COLUMNS) :])
    return (
        pl.DataFrame(
            {
                "cgroup_id": found.cgroup_ids[cgroup],
                "key": [found.extra[number] for number in extra.tolist()],
                "value": found.values[len(COLUMNS) :][extra, cgroup],
            },
            schema={"cgroup_id": pl.UInt64, "key": pl.String, "value": pl.UInt64},
        )
        .group_by("cgroup_id")
        .agg(pl.struct("key", "value").alias("extra"))
    )


def _affordable_files() -> int:
    """How many files may stay open: half of what this process may have, worth a small share of the node's memory."""
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(limit // 2, int(memory * _SHARE_OF_MEMORY / _KERNEL_BYTES_A_FILE))
