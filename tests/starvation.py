# SPDX-License-Identifier: Apache-2.0
"""For how long a machine with too much to do held somebody up, so that a promise of time can be kept apart from it."""

import contextlib
import threading
import time
from pathlib import Path


class Starvation(threading.Thread):
    """For how long a process's threads had no CPU though they were ready to run, in all (proc_pid_schedstat(5)).

    It is read each `_PERIOD_SECONDS`. Where this process got no CPU for that, nor may the other have had one.
    """

    _PERIOD_SECONDS = 0.1

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._tasks = Path(f"/proc/{pid}/task")
        self._samples = [(0, self._waited())]
        self.start()

    def run(self) -> None:
        # Threads that end take theirs with them; those of a run last as long as it does.
        with contextlib.suppress(OSError):
            while True:
                self._samples.append((time.monotonic_ns(), self._waited()))
                time.sleep(self._PERIOD_SECONDS)

    def _waited(self) -> int:
        waited = 0
        for task in self._tasks.iterdir():
            with contextlib.suppress(OSError, IndexError):
                waited += int((task / "schedstat").read_text().split()[1])
        return waited

    def between(self, begin_ns: int, end_ns: int) -> int:
        """In ns, until the process ended at the latest."""
        until = [[waited for at_ns, waited in self._samples if at_ns <= time_ns] for time_ns in (begin_ns, end_ns)]
        last_ns = max([begin_ns, *(at_ns for at_ns, _waited in self._samples if at_ns <= end_ns)])
        not_read_ns = end_ns - last_ns - int(self._PERIOD_SECONDS * 1e9)
        return max(until[1]) - max(until[0]) + max(0, not_read_ns)


class DiskStalls(Starvation):
    """For how long any task of the machine waited for a disk, by the kernel (Documentation/accounting/psi.rst)."""

    def __init__(self) -> None:
        super().__init__(0)

    def _waited(self) -> int:
        some = Path("/proc/pressure/io").read_text().splitlines()[0]
        return int(some.rsplit("total=", 1)[1]) * 1000
