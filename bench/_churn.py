# SPDX-License-Identifier: Apache-2.0
"""Containers that come and go, each with a process that works a little.

    python bench/_churn.py ROOT STATE LIVING LIFE

Has LIVING containers at any time below the cgroup ROOT, with bundles below STATE, each of which lives LIFE seconds
(`inf`: to the end), until SIGTERM. Prints the id of each as soon as it is made. A program of its own: whoever starts
it has threads, with which it should not fork.
"""

import os
import shutil
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

from _containers import Container, remove_cgroups

_WORK_SECONDS = 0.001
_PAUSE_SECONDS = 0.02
_LOOK_SECONDS = 0.1


class _Living(NamedTuple):
    container: Container
    process: int
    until: float


def work(cgroup: Path) -> None:
    """The process: it runs for a millisecond of each twenty or so."""
    (cgroup / "cgroup.procs").write_text("0")
    while True:
        end = time.monotonic() + _WORK_SECONDS
        while time.monotonic() < end:
            pass
        time.sleep(_PAUSE_SECONDS)


def begin(root: Path, state: Path, until: float) -> _Living:
    """A container as a runtime makes it: its bundle, its cgroup, its process."""
    container = Container.new(root, state)
    container.write_bundle()
    container.cgroup.mkdir(parents=True)
    process = os.fork()
    if not process:
        try:
            work(container.cgroup)
        finally:
            os._exit(1)
    return _Living(container, process, until)


def end(living: _Living) -> None:
    """Ends its process and removes all of it."""
    os.kill(living.process, signal.SIGKILL)
    _pid, status = os.waitpid(living.process, 0)
    assert os.WIFSIGNALED(status), "a container's process could not work"
    # A task that has been waited for may be in its cgroup for a moment more.
    while True:
        try:
            living.container.cgroup.rmdir()
        except OSError:
            time.sleep(0.001)
        else:
            break
    living.container.pod.rmdir()
    # Somebody may put a file into it meanwhile.
    shutil.rmtree(living.container.bundle, ignore_errors=True)


def main() -> None:
    root, state = (Path(argument) for argument in sys.argv[1:3])
    most, life = int(sys.argv[3]), float(sys.argv[4])
    stopped = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    living: deque[_Living] = deque()
    # The first ones live up to twice as long: so ends are spread over a life, also those of all that follow.
    longer = [life * (number + 1) / most for number in range(most)]
    while not stopped:
        now = time.monotonic()
        if living and now >= living[0].until:
            end(living.popleft())
        elif len(living) < most:
            living.append(begin(root, state, now + life + (longer.pop(0) if longer else 0)))
            print(living[-1].container.container_id, flush=True)
        else:
            time.sleep(min(living[0].until - now, _LOOK_SECONDS))
    while living:
        end(living.popleft())
    remove_cgroups(root / "kubepods.slice")


if __name__ == "__main__":
    main()
