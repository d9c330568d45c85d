# SPDX-License-Identifier: Apache-2.0
"""The processes of guests: commands whose emulators are ended from outside."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from guests import VM


class Process:
    """Anybody's process: by its number and its start, so that it is no later one."""

    def __init__(self, pid: int) -> None:
        """Raises OSError if there is none."""
        self.pid = pid
        self._start = self._fields()[19]

    def _fields(self) -> list[str]:
        return (self._proc / "stat").read_text().rpartition(")")[2].split()

    @property
    def _proc(self) -> Path:
        return Path(f"/proc/{self.pid}")

    @property
    def is_there(self) -> bool:
        """Zombies are not."""
        try:
            fields = self._fields()
        except OSError:
            return False
        return fields[19] == self._start and fields[0] not in "ZX"

    @property
    def parent(self) -> int:
        return int(self._fields()[1])

    @property
    def is_emulator(self) -> bool:
        return b"bin/qemu-system-" in (self._proc / "cmdline").read_bytes()

    @property
    def directories(self) -> set[Path]:
        """Those of guests that it holds."""
        held = {path.readlink() for path in (self._proc / "fd").iterdir()}
        return {path for path in held if path.name.startswith("tracer-vm-")}


class Guests(NamedTuple):
    """A process and all below it, and what they hold."""

    processes: list[Process]
    emulators: list[Process]
    directories: set[Path]

    @classmethod
    def of(cls, pid: int) -> "Guests":
        every = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                every.append((process := Process(int(path.name)), process.parent))
            except OSError:
                continue
        below, pids = [Process(pid)], {pid}
        # By ascending number a child may come before its parent.
        while found := [process for process, parent in every if parent in pids and process.pid not in pids]:
            below += found
            pids |= {process.pid for process in found}
        emulators, directories = [], set()
        for process in below:
            try:
                emulators += [process] if process.is_emulator else []
                directories |= process.directories
            except OSError:
                continue
        return cls(below, emulators, directories)

    @property
    def are_gone(self) -> bool:
        return not any(process.is_there for process in self.processes)

    @property
    def are_gone_with_their_files(self) -> bool:
        return self.are_gone and not any(path.exists() for path in self.directories)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        time.sleep(0.1)


@contextmanager
def started(
    command: list[str], *, emulators: int = 1, meanwhile: Callable[[Guests], bool] = lambda _guests: True
) -> Iterator[tuple[subprocess.Popen[str], Guests]]:
    """A command once so many emulators run below it."""
    process = subprocess.Popen(command, cwd=VM.parents[1], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)  # fmt: skip
    try:
        guests = Guests.of(process.pid)
        while len(guests.emulators) < emulators or not meanwhile(guests):
            assert process.poll() is None
            time.sleep(0.1)
            guests = Guests.of(process.pid)
        assert len(guests.directories) == emulators
        yield process, guests
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
