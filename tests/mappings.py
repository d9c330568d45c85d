# SPDX-License-Identifier: Apache-2.0
"""Real mappings of all sorts in this process, and what the reader makes of them."""

import ctypes
import mmap
import os
import platform
from pathlib import Path
from typing import Any

from tracer.readers.file_systems import FileSystems
from tracer.readers.mapping_kinds import Kind
from tracer.readers.memory_maps import parse_smaps

SHARED, PRIVATE, ANONYMOUS = mmap.MAP_SHARED, mmap.MAP_PRIVATE, mmap.MAP_ANONYMOUS
HUGE = 0x40000
IO_SETUP = {"x86_64": 206, "aarch64": 0}[platform.machine()]
PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}[platform.machine()]
IO_URING_SETUP, MEMFD_SECRET = 425, 447

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.shmat.restype = ctypes.c_void_p
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip


def checked(result: int | None) -> int:
    """The result of a call of the C library; raises OSError."""
    if result in (None, -1, 2**64 - 1):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    assert result is not None
    return result


def mapped(descriptor: int, flags: int, size: int = 1 << 16, *, writable: bool = True) -> int:
    """The address of a new mapping, which stays to the end of the process, as does its file."""
    return checked(libc.mmap(None, size, 3 if writable else 1, flags, descriptor, 0))


def file_of(path: Path, size: int = 1 << 16) -> int:
    """A descriptor of a new file of this size."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.ftruncate(descriptor, size)
    return descriptor


def own_regions() -> list[dict[str, Any]]:
    """As the reader of processes would have them."""
    file_systems = FileSystems(b"/proc")
    file_systems.begin_pass()
    pid = os.getpid()
    return parse_smaps(
        Path("/proc/self/smaps").read_bytes(), file_systems.of(pid), lambda addresses: file_systems.node(pid, addresses)
    )


def kind_at(address: int) -> Kind:
    """The kind of the mapping at an address of this process."""
    blocks: list[list[bytes]] = []
    for line in Path("/proc/self/smaps").read_bytes().splitlines(keepends=True):
        if b"-" in line.split()[0]:
            blocks.append([])
        blocks[-1].append(line)
    file_systems = FileSystems(b"/proc")
    file_systems.begin_pass()
    pid = os.getpid()
    for block in blocks:
        first, end = (int(number, 16) for number in block[0].split()[0].split(b"-"))
        if first <= address < end:
            (region,) = parse_smaps(
                b"".join(block), file_systems.of(pid), lambda addresses: file_systems.node(pid, addresses)
            )
            kind: Kind = region["kind"]
            return kind
    raise LookupError(hex(address))
