# SPDX-License-Identifier: Apache-2.0
"""I/O and its limits of each cgroup by block device: table `io`."""

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from tracer.readers.protocol import Cgroup, Observation, Reader
from tracer.readers.resources import has_resources

_COUNTERS = ("rbytes", "wbytes", "rios", "wios", "dbytes", "dios")
_LIMITS = ("rbps", "wbps", "riops", "wiops")
_LONGEST_FILE = 256 << 10
_PAIR = re.compile(rb"([a-z]+)=([0-9]{1,19})(?= |$)")
_DEVICE = re.compile(rb"[0-9]{1,9}:[0-9]{1,9}")
_SCHEMA: Final = pl.Schema(
    {
        "cgroup_id": pl.UInt64,
        "monotonic_ns": pl.Int64,
        "device": pl.String,
        **{f"io_{key}": pl.UInt64 for key in _COUNTERS},
        **{f"io_max_{key}": pl.UInt64 for key in _LIMITS},
    }
)


class IoDevicesReader(Reader):
    """A row of each device that io.stat or io.max names."""

    name = "io"

    def __init__(self, root: Path) -> None:
        """`root`: where the cgroup2 tree is mounted."""
        self._root = os.fsencode(root).rstrip(b"/")

    def read(self, cgroups: Sequence[Cgroup]) -> Observation:
        """Reads both files of each cgroup that `has_resources`."""
        rows = []
        for cgroup in cgroups:
            if not has_resources(cgroup):
                continue
            directory = self._root + os.fsencode(cgroup.path)
            now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            counters, limits = (_by_device(_read(directory + name)) for name in (b"/io.stat", b"/io.max"))
            for device in sorted(counters.keys() | limits.keys()):
                counted, limited = counters.get(device, {}), limits.get(device, {})
                values = [*map(counted.get, _COUNTERS), *map(limited.get, _LIMITS)]
                rows.append((cgroup.cgroup_id, now_ns, device, *values))
        return Observation({"io": pl.DataFrame(rows, schema=_SCHEMA, orient="row")})


def _by_device(text: bytes) -> dict[str, dict[str, int]]:
    """Numbers by key, by device; `max` is no number. Lines of anything else are left out."""
    found = {}
    for line in text.splitlines():
        device, _, rest = line.partition(b" ")
        if _DEVICE.fullmatch(device):
            found[device.decode()] = {key.decode(): int(value) for key, value in _PAIR.findall(rest)}
    return found


def _read(path: bytes) -> bytes:
    """Empty if there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return b""
    try:
        return os.read(descriptor, _LONGEST_FILE)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
