# SPDX-License-Identifier: Apache-2.0
"""A machine is switched off while its tracer writes with --sync: at most the last second is missing."""

import os
import signal
import subprocess
import time
from concurrent.futures import wait
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from guest_processes import Guests, started
from guests import VM
from kept_rows import end_of_rows

if TYPE_CHECKING:
    from concurrent.futures import Future

    from conftest import Ended

pytestmark = pytest.mark.root

_SECOND = 10**9
_DISK_BYTES = 256 << 20


class Beat(NamedTuple):
    """What the guest says each 0.1 s; see `traced_until_switched_off`."""

    monotonic_ns: int
    waited_ns: int
    files: int


def test_a_machine_is_switched_off(tmp_path: Path, guests_ahead: "dict[str, Future[Ended]]") -> None:
    # Of a CPU that an emulator does not get, its guest knows nothing.
    wait(guests_ahead.values())
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(_DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True)
    command = [VM, "run", "--disk", disk, "--", "python", "tests/guest/traced_until_switched_off.py"]
    beats: list[Beat] = []
    with started([str(word) for word in command]) as (process, _guests):
        assert process.stdout is not None
        off_at = None
        for line in process.stdout:
            if not line.startswith("beat "):
                print(line, end="")
                continue
            beats.append(Beat(*map(int, line.split()[1:])))
            if off_at is None and beats[-1].files:
                # Not at the moment at which a file was closed.
                off_at = time.monotonic() + 6
            if off_at is not None and time.monotonic() > off_at:
                break
        assert off_at is not None, "no file was closed"
        # The first one may have been a trial of the machine's acceleration.
        for guest in Guests.of(process.pid).emulators:
            os.kill(guest.pid, signal.SIGKILL)
        process.wait()
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    subprocess.run(["mount", "-o", "loop", disk, mounted], check=True)
    try:
        end_ns = end_of_rows(mounted / "results")
    finally:
        subprocess.run(["umount", mounted], check=True)
    assert end_ns is not None
    off = beats[-1]
    before = [beat for beat in beats if beat.monotonic_ns <= end_ns]
    assert before, "what was recovered ends before the tracer began"
    missing_ns, starved_ns = off.monotonic_ns - end_ns, off.waited_ns - before[-1].waited_ns
    print(f"the last {missing_ns / _SECOND:.2f} s are missing, starved for {starved_ns / _SECOND:.2f} s")
    assert missing_ns - starved_ns < _SECOND
