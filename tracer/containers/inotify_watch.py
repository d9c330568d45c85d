# SPDX-License-Identifier: Apache-2.0
"""Cgroups that come and go as inotify tells it: for nodes where the kernel's tracepoints cannot be used.

One watch a directory, as inotify has no other. An event only says which directory to look at, and what is found
there is compared with what is known: so events that are late, doubled or out of date do no harm. A cgroup that is
gone before its event is read leaves nothing to look at, and is not told.

Numbers and the layout of an event: include/uapi/linux/inotify.h; what they promise: inotify(7).
"""

import ctypes
import errno
import os
import select
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Self

from tracer.cgroup_event import CgroupEvent, EventKind
from tracer.errors import NodeUnsupportedError

_IN_CREATE = 0x100
_IN_DELETE = 0x200
_IN_Q_OVERFLOW = 0x4000
_IN_IGNORED = 0x8000
_IN_ONLYDIR = 0x01000000
_IN_DONT_FOLLOW = 0x02000000
# Cgroups cannot be moved: the kernel refuses to rename one of version 2.
_MASK = _IN_CREATE | _IN_DELETE | _IN_ONLYDIR | _IN_DONT_FOLLOW

# wd, mask, cookie, length of the name with its padding of NULs
_EVENT = struct.Struct("=iIII")
_READ_BYTES = 1 << 16

# While directories are unwatched, all is scanned anew each second, or so rarely that it takes 5 % of a CPU.
_SCAN_INTERVAL_SECONDS = 1.0
_SCAN_SHARE = 0.05

_libc = ctypes.CDLL(None, use_errno=True)


class WatchGap(NamedTuple):
    """Something that the watch does not see, so that cgroups may come and go untold."""

    time_ns: int
    """CLOCK_MONOTONIC."""
    cause: Literal["overflow", "out of watches"]
    """`overflow`: the kernel threw events away; what exists was scanned anew and told. `out of watches`: this
    directory, and maybe more, is only scanned from time to time."""
    path: str


class _Directory:
    """One known cgroup; `watch` is None while there is none on it."""

    __slots__ = ("cgroup_id", "children", "name", "parent", "path", "watch")

    def __init__(self, parent: "_Directory | None", name: str, cgroup_id: int) -> None:
        self.parent = parent
        self.name = name
        self.path: str = f"{parent.path}/{name}" if parent else ""
        self.cgroup_id = cgroup_id
        self.watch: int | None = None
        self.children: dict[str, _Directory] = {}

    def subtree(self) -> "list[_Directory]":
        """This directory and all below it, parents first."""
        directories = [self]
        for directory in directories:
            directories.extend(directory.children.values())
        return directories


class InotifyWatch:
    """Watches the tree at `root` with at most `max_watches` watches, about 1 KB of the kernel's memory each.

    Call `start` before the first walk, so that nothing comes between the two. Not thread-safe.
    """

    def __init__(self, root: Path, *, max_watches: int = 16_384) -> None:
        """Raises NodeUnsupportedError where inotify or the tree cannot be used."""
        self._top = str(root).rstrip("/")
        self._max_watches = max_watches
        try:
            self._root = _Directory(None, "", root.stat().st_ino)
        except OSError as error:
            raise NodeUnsupportedError(f"cannot watch {str(root)!r}: {error.strerror}") from error
        self._watched: dict[int, _Directory] = {}
        self._unwatched: set[_Directory] = set()
        self._out_of_watches = False
        self._told: list[CgroupEvent | WatchGap] = []
        self._next_scan = 0.0
        self._fd = _inotify_init()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    @property
    def unwatched(self) -> int:
        """How many cgroups are known whose children only a scan finds, for want of watches."""
        return len(self._unwatched)

    def start(self) -> None:
        """Watches all that exists now, of which `read` does not tell."""
        self._scan()
        self._told = [told for told in self._told if isinstance(told, WatchGap)]

    def read(self, timeout_seconds: float) -> list[CgroupEvent | WatchGap]:
        """What happened since the last call, `created` and `removed` only; waits up to `timeout_seconds` for it.

        Times are those of this call. Parents are created before their children and removed after them.
        """
        overflowed = False
        if self._poll.poll(0 if self._told else timeout_seconds * 1000):
            for watch, mask, name in _parse(os.read(self._fd, _READ_BYTES)):
                if mask & _IN_Q_OVERFLOW:
                    overflowed = True
                elif mask & _IN_IGNORED:
                    self._lose_watch(watch)
                elif directory := self._watched.get(watch):
                    self._look_at(directory, name)
        if overflowed:
            self._told.append(WatchGap(_monotonic_ns(), "overflow", "/"))
        if overflowed or (self._unwatched and time.monotonic() >= self._next_scan):
            self._scan()
        told, self._told = self._told, []
        return told

    def close(self) -> None:
        """Ends all watches. Can be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _scan(self) -> None:
        """Compares the whole tree with what is known of it, and adds the watches that are missing."""
        begun = time.monotonic()
        self._examine(self._root, deep=True)
        ended = time.monotonic()
        self._next_scan = ended + max(_SCAN_INTERVAL_SECONDS, (ended - begun) / _SCAN_SHARE)

    def _look_at(self, parent: _Directory, name: str) -> None:
        """Something came, went or was replaced here."""
        child = self._settle(parent, name, self._inode(f"{parent.path}/{name}"))
        if child is not None and child.watch is None:
            self._examine(child, deep=False)

    def _lose_watch(self, watch: int) -> None:
        """The kernel has ended a watch, as the directory is gone; sooner or later its parent hears of it."""
        directory = self._watched.pop(watch, None)
        if directory is not None:
            directory.watch = None
            if directory.parent is not None:
                self._look_at(directory.parent, directory.name)

    def _examine(self, start: _Directory, *, deep: bool) -> None:
        """Watches a directory, then lists it; the same for the new ones in it, or for all with `deep`."""
        unexamined = [start]
        while unexamined:
            directory = unexamined.pop()
            # In this order, so that a child is either listed or told.
            if directory.watch is None:
                self._watch(directory)
            found = self._list(directory)
            if found is None:
                continue
            for name in directory.children.keys() - found.keys():
                self._settle(directory, name, None)
            for name, inode in found.items():
                known = directory.children.get(name)
                child = self._settle(directory, name, inode)
                if child is not None and (deep or child is not known):
                    unexamined.append(child)

    def _settle(self, parent: _Directory, name: str, inode: int | None) -> _Directory | None:
        """Makes what is known agree with what was found, None for nothing, and tells the difference."""
        known = parent.children.get(name)
        if known is not None and known.cgroup_id == inode:
            return known
        if known is not None:
            self._forget(known)
        if inode is None:
            return None
        child = _Directory(parent, name, inode)
        parent.children[name] = child
        self._tell("created", child)
        return child

    def _forget(self, directory: _Directory) -> None:
        assert directory.parent is not None
        del directory.parent.children[directory.name]
        for gone in reversed(directory.subtree()):
            # One that was replaced at once may have left its watch to its successor.
            if gone.watch is not None and self._watched.get(gone.watch) is gone:
                del self._watched[gone.watch]
            self._unwatched.discard(gone)
            self._tell("removed", gone)

    def _tell(self, kind: EventKind, directory: _Directory) -> None:
        self._told.append(CgroupEvent(_monotonic_ns(), kind, directory.cgroup_id, directory.path))

    def _watch(self, directory: _Directory) -> None:
        """Adds the watch if there is one to be had; a directory that is gone meanwhile needs none."""
        code = errno.ENOSPC
        if len(self._watched) < self._max_watches:
            watch = _libc.inotify_add_watch(self._fd, os.fsencode(self._top + directory.path or "/"), _MASK)
            code = 0 if watch >= 0 else ctypes.get_errno()
        if code == 0:
            directory.watch = watch
            self._watched[watch] = directory
            self._unwatched.discard(directory)
            self._out_of_watches = False
        elif code in (errno.ENOSPC, errno.ENOMEM):
            self._unwatched.add(directory)
            if not self._out_of_watches:
                self._told.append(WatchGap(_monotonic_ns(), "out of watches", directory.path or "/"))
            self._out_of_watches = True

    def _list(self, directory: _Directory) -> dict[str, int] | None:
        """Names and inodes of the directories in it; None if it is gone or cannot be read."""
        path = self._top + directory.path or "/"
        try:
            # As in `walk`: a link count of 2 says that there is none.
            if os.stat(path).st_nlink == 2:  # noqa: PTH116
                return {}
            with os.scandir(path) as entries:
                return {entry.name: entry.inode() for entry in entries if entry.is_dir(follow_symlinks=False)}
        except OSError:
            return None

    def _inode(self, path: str) -> int | None:
        """Inode of a directory; None if there is none now."""
        try:
            status = os.lstat(self._top + path)
        except OSError:
            return None
        return status.st_ino if stat.S_ISDIR(status.st_mode) else None


def _inotify_init() -> int:
    fd = int(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if fd >= 0:
        return fd
    code = ctypes.get_errno()
    remedy = "; raise fs.inotify.max_user_instances, or ulimit -n" if code == errno.EMFILE else ""
    raise NodeUnsupportedError(f"inotify cannot be used: {os.strerror(code)}{remedy}")


def _parse(buffer: bytes) -> Iterator[tuple[int, int, str]]:
    """Watch, mask and name of each event."""
    place = 0
    while place < len(buffer):
        watch, mask, _cookie, length = _EVENT.unpack_from(buffer, place)
        place += _EVENT.size
        yield watch, mask, os.fsdecode(buffer[place : place + length].rstrip(b"\0"))
        place += length


def _monotonic_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
