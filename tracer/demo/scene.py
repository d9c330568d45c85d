# SPDX-License-Identifier: Apache-2.0
"""The demo's two containers: their cgroups, and what runs in them. Whatever happens, nothing of it stays.

The cgroups are below `tracer-demo-<random>` at the top of the cgroup2 tree, which nobody else uses; no limit is set and
no controller turned on. Who has made them holds a lock on that directory, which goes with him: a lock that can be had
marks what a demo has left that was killed. Its processes are gone by then (`programs.end_with`).
"""

import contextlib
import fcntl
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from tracer.errors import NodeUnsupportedError

PREFIX: Final = "tracer-demo-"
SERVICE: Final = "demo-service"
HOG: Final = "demo-hog"

_PROGRAMS = Path(__file__).with_name("programs.py")
_END_SECONDS = 10.0
_LOOK_SECONDS = 0.2
_ATTEMPTS = 3


class Answers(msgspec.Struct, frozen=True):
    """What the service has measured of its own requests: how many, and in ns the median of their work and latency.

    One in a hundred took `slowest_ns` or longer.
    """

    requests: int
    work_ns: int
    latency_ns: int
    slowest_ns: int


class Scene:
    """A service and a hog on one CPU, for `seconds` from `begin` on; nothing is made before `prepare`."""

    def __init__(self, root: Path, seconds: float) -> None:
        self.cpu = _idlest_cpu()
        self._root = root
        self._seconds = seconds
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._top: Path | None = None
        self._lock: int | None = None

    def prepare(self) -> None:
        """Makes the cgroups, and both processes in them wait. Raises NodeUnsupportedError; then `end` is still due."""
        try:
            top = self._make_top()
            for name, role in ((SERVICE, "service"), (HOG, "hog")):
                (top / name).mkdir()
                self._start(name, role, top / name)
        except OSError as error:
            raise NodeUnsupportedError(
                f"cannot make the demo's cgroups: {error.filename or 'fork'}: {error.strerror}; run it as root (sudo), "
                "with a cgroup2 tree that can be written to"
            ) from error

    def begin(self) -> None:
        """Both start to work."""
        for process in self._processes.values():
            assert process.stdin is not None
            # One that has ended all the same is missed at the end.
            with contextlib.suppress(OSError):
                process.stdin.write("\n")
                process.stdin.flush()

    def end(self) -> None:
        """Ends what runs and removes the cgroups. May be called again."""
        for process in self._processes.values():
            process.kill()
            process.communicate()
        self._processes.clear()
        if self._top is not None:
            remove_cgroups(self._top)
            self._top = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def answers(self) -> Answers | None:
        """Ends both; what the service says of its requests, None if it came to none, or was ended by somebody else."""
        service = self._processes[SERVICE]
        try:
            self._processes[HOG].kill()
            service.terminate()
            said, _errors = service.communicate(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.end()
        return msgspec.json.decode(said, type=Answers) if said else None

    def _make_top(self) -> Path:
        for _attempt in range(_ATTEMPTS):
            # Before it is made, so that it is removed whenever that is interrupted.
            self._top = top = self._root / f"{PREFIX}{secrets.token_hex(4)}"
            top.mkdir()
            # Another demo that starts may take it for a leftover in between.
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                self._lock = _locked(top)
                if top.exists():
                    return top
                os.close(self._lock)
                self._lock = None
        raise NodeUnsupportedError(f"others remove the demo's cgroups in {str(self._root)!r} as soon as they are made")

    def _start(self, name: str, role: str, cgroup: Path) -> None:
        command = [
            sys.executable,
            "-I",
            "-S",
            str(_PROGRAMS),
            role,
            str(os.getpid()),
            str(self.cpu),
            str(self._seconds),
        ]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._processes[name] = process
        (cgroup / "cgroup.procs").write_text(str(process.pid))


def _idlest_cpu() -> int:
    """Of those that may be used, where least goes on in a moment: what others do there is not what is to be seen."""
    before = _idle_times()
    time.sleep(_LOOK_SECONDS)
    idle = {cpu: since - before.get(cpu, since) for cpu, since in _idle_times().items()}
    return max(os.sched_getaffinity(0), key=lambda cpu: (idle.get(cpu, 0), cpu))


def _idle_times() -> dict[int, int]:
    """By CPU, in ticks of the kernel's, without and with waiting for I/O (proc_stat(5)); empty where nobody tells."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines if re.match("cpu[0-9]", line))
    return {int(name[3:]): int(idle) + int(iowait) for name, _user, _nice, _system, idle, iowait, *_rest in fields}


def remove_leftovers(root: Path) -> list[str]:
    """Removes what demos left that were killed; the names of their cgroups."""
    removed = []
    for top in sorted(root.glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError):
            lock = _locked(top)
            try:
                remove_cgroups(top)
            finally:
                os.close(lock)
            removed.append(top.name)
    return removed


def remove_cgroups(top: Path) -> None:
    """Removes a demo's cgroups and what runs in them. Raises OSError where one stays."""
    try:
        groups = [path for path in top.iterdir() if path.is_dir()]
    except FileNotFoundError:
        return
    for group in groups:
        _kill(group)
    for group in (*groups, top):
        _remove(group)


def _locked(top: Path) -> int:
    """The directory, open. Raises BlockingIOError while whoever made it lives."""
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _kill(group: Path) -> None:
    """All that runs in it; before Linux 5.14 (661ee6280931, "cgroup: introduce cgroup.kill") one by one."""
    try:
        (group / "cgroup.kill").write_text("1")
    except FileNotFoundError:
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _remove(group: Path) -> None:
    """A process that was killed is in its cgroup for a moment longer."""
    for pause in _pauses():
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if pause is None:
                raise
            time.sleep(pause)
        else:
            return


def _pauses() -> Iterator[float | None]:
    yield from [0.02] * int(_END_SECONDS / 0.02)
    yield None
