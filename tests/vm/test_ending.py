# SPDX-License-Identifier: Apache-2.0
"""A guest ends with whoever asked for it: no emulator is left, and no file."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from guests import VM

pytestmark = pytest.mark.root

FOREVER = [str(VM), "run", "--", "sleep", "1000"]
# More than run at once, so that one more waits for its turn.
SUITE = [
    sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/matrix", "-k", "version_1 or locked or one_cpu",
]  # fmt: skip


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


def has_begun(guests: Guests) -> bool:
    """Not only a trial of the machine's acceleration."""
    return all((path / "console").exists() for path in guests.directories)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_guest_ends_with_its_command(number: signal.Signals) -> None:
    with started(FOREVER) as (process, guests):
        process.send_signal(number)
        wait_until(lambda: guests.are_gone_with_their_files)
        assert process.wait() == (130 if number == signal.SIGINT else 125)


def test_what_a_killed_command_leaves_goes_with_the_next() -> None:
    with started(FOREVER, meanwhile=has_begun) as (process, guests):
        process.kill()
        wait_until(lambda: guests.are_gone)
    assert all(path.exists() for path in guests.directories)
    with started(FOREVER) as (process, _guests):
        assert not any(path.exists() for path in guests.directories)
        process.terminate()
        process.wait()


def test_a_guest_ends_with_who_asked_for_it() -> None:
    with started(["sh", "-c", f"{' '.join(FOREVER)}; true"]) as (process, guests):
        process.kill()
        wait_until(lambda: guests.are_gone_with_their_files)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_all_guests_end_with_their_tests(number: signal.Signals) -> None:
    """Only the tests hear of it, as where a service stops them; of Ctrl-C at a terminal the guests hear as well."""
    with started(SUITE, emulators=2) as (process, guests):
        process.send_signal(number)
        wait_until(lambda: guests.are_gone_with_their_files)
        assert process.wait() == (2 if number == signal.SIGINT else -number)
        assert process.stdout is not None
        assert "passed" not in process.stdout.read()
