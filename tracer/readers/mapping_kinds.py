# SPDX-License-Identifier: Apache-2.0
"""What a mapping of a process's memory is, from what `/proc/<pid>/smaps` says of it (proc_pid_smaps(5)).

A name does not tell: a file on a disk may be called `/memfd:x` or `/anon_hugepage`. Permissions, the file system and
the flags do, and of what is in no mounted file system the kernel makes the names.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

Kind = Literal["heap", "stack", "anonymous", "file", "shared", "device", "kernel"]
Device = tuple[int, int]
"""Major and minor number, as st_dev has them."""

_ZERO: Device = (1, 5)
_MEMORY = frozenset({"tmpfs", "ramfs", "hugetlbfs"})
# What their files show is made by a driver or by the kernel.
_DEVICES = frozenset({"devtmpfs", "proc", "sysfs", "debugfs", "tracefs"})
# What the kernel makes in file systems of its own has these names, and never was in a directory: buffers of drivers and
# asynchronous I/O (drivers/dma-buf/dma-buf.c, fs/aio.c); memory of memfd_create(2), memfd_secret(2), shmget(2), and of
# MAP_ANONYMOUS if it is shared or of huge pages (mm/shmem.c, fs/hugetlbfs/inode.c).
_INTERNAL_DEVICES = (b"/dmabuf:", b"/[aio] (deleted)")
_INTERNAL_MEMORY = (b"/memfd:", b"/secretmem", b"/SYSV", b"/dev/zero", b"/anon_hugepage")


class Described(NamedTuple):
    """A mapping as smaps describes it."""

    addresses: bytes
    permissions: bytes
    device: Device
    """Of the file system that its file is in; (0, 0) without a file."""
    name: bytes
    flags: frozenset[bytes]
    """VmFlags."""


def kind_of(
    mapping: Described, file_systems: Mapping[Device, str], node: Callable[[bytes], Device | None] = lambda _range: None
) -> Kind:
    """The kind of a mapping.

    `file_systems`: types by device, of those that are mounted. `node` gives the device that a mapping's file is a node
    of, by the mapping's addresses, or None if it is none.
    """
    name = mapping.name
    is_shared = mapping.permissions.endswith(b"s")
    if not name.startswith(b"/"):
        return _unnamed(name)
    # PFN maps and I/O memory: graphics cards, BARs of PCI, /dev/mem, buffers of dma-buf.
    if mapping.flags & {b"pf", b"io"}:
        return "device"
    file_system = file_systems.get(mapping.device)
    if file_system is None:
        return _of_unknown_file_system(mapping, is_shared=is_shared)
    if file_system in _DEVICES or (file_system in _MEMORY and b"ht" not in mapping.flags):
        number = node(mapping.addresses)
        # Its private mappings are anonymous memory (drivers/char/mem.c, mmap_zero).
        if number == _ZERO and not is_shared:
            return "anonymous"
        if number is not None or file_system in _DEVICES:
            return "device"
    return "shared" if file_system in _MEMORY and is_shared else "file"


def _unnamed(name: bytes) -> Kind:
    """Of a mapping without a file, or of an object that has a name of another form than a path."""
    if not name or name.startswith(b"[anon:"):
        return "anonymous"
    if name.startswith(b"[anon_shmem:"):
        return "shared"
    if name == b"[heap]":
        return "heap"
    # Before v4.5 also those of threads, as [stack:<tid>].
    if name.startswith(b"[stack"):
        return "stack"
    # [vdso] and its like; or anon_inode:[io_uring], anon_inode:[perf_event], socket:[4711].
    return "kernel" if name.startswith(b"[") else "device"


def _of_unknown_file_system(mapping: Described, *, is_shared: bool) -> Kind:
    """Of what is in a file system that is mounted nowhere, or not where it can be seen."""
    name = mapping.name
    # Disks have other numbers.
    may_be_internal = mapping.device[0] == 0
    if may_be_internal and name.startswith(_INTERNAL_DEVICES):
        return "device"
    if may_be_internal and name.endswith(b" (deleted)"):
        if name.startswith(b"/anon_hugepage") and not is_shared:
            return "anonymous"
        return "shared" if is_shared or name.startswith(_INTERNAL_MEMORY) else "file"
    # Nothing but the place is left to go by.
    if name.startswith(b"/dev/"):
        return "shared" if name.startswith(b"/dev/shm/") else "device"
    return "file"
