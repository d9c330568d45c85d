# SPDX-License-Identifier: Apache-2.0
"""I/O and its limits of each cgroup by block device: table `io`."""

import os
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from tracer.readers.block_devices import UNKNOWN, BlockDevices
from tracer.readers.protocol import Cgroup, Observation, Reader
from tracer.readers.resources import has_resources

_COUNTERS = ("rbytes", "wbytes", "rios", "wios", "dbytes", "dios")
_LIMITS = ("rbps", "wbps", "riops", "wiops")
_KEYS = frozenset((*_COUNTERS, *_LIMITS))
_CHUNK = 256 << 10
# Of a million devices.
_LONGEST_FILE = 64 << 20
_DEVICE = re.compile(rb"[0-9]{1,9}:[0-9]{1,9}|" + re.escape(UNKNOWN.encode()))
_NUMBER = re.compile(rb"[0-9]{1,19}")
_SCHEMA: Final = pl.Schema(
    {
        "cgroup_id": pl.UInt64,
        "monotonic_ns": pl.Int64,
        "device": pl.String,
        "is_summed": pl.Int32,
        **{f"io_{key}": pl.UInt64 for key in _COUNTERS},
        **{f"io_max_{key}": pl.UInt64 for key in _LIMITS},
    }
)


class IoDevicesReader(Reader):
    """A row of each device of which io.stat has values, or which io.max names."""

    name = "io"

    def __init__(self, root: Path, devices: BlockDevices | None = None) -> None:
        """`root`: where the cgroup2 tree is mounted."""
        self._root = os.fsencode(root).rstrip(b"/")
        self._devices = devices or BlockDevices()

    def read(self, cgroups: Sequence[Cgroup]) -> Observation:
        """Reads both files of each cgroup that `has_resources`."""
        left_out = self._devices.stacks().left_out
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
                rows.append((cgroup.cgroup_id, now_ns, device, int(device not in left_out), *values))
        return Observation({"io": pl.DataFrame(rows, schema=_SCHEMA, orient="row")})


def _by_device(text: bytes) -> dict[str, dict[str, int]]:
    """Numbers by key, by device; `max` is no number. What is malformed is left out.

    Values are of the device that stands right before them. Devices without a number are one.
    """
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for line in text.split(b"\n"):
        device = None
        for word in line.split(b" "):
            key, separator, value = word.partition(b"=")
            if not separator:
                device = word.decode() if _DEVICE.fullmatch(word) else None
            elif device and (name := key.decode(errors="replace")) in _KEYS and _NUMBER.fullmatch(value):
                of_device = found[device]
                of_device[name] = of_device.get(name, 0) + int(value)
    return found


def _read(path: bytes) -> bytes:
    """The whole lines; empty if there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return b""
    text = b""
    try:
        while len(text) < _LONGEST_FILE and (chunk := os.read(descriptor, _CHUNK)):
            text += chunk
    except OSError:
        return b""
    finally:
        os.close(descriptor)
    return text if len(text) < _LONGEST_FILE else text[: text.rfind(b"\n") + 1]
