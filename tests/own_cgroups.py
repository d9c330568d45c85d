# SPDX-License-Identifier: Apache-2.0
"""Cgroups that tests make at the top of the cgroup2 tree, and their removal, also of what a killed test left."""

import contextlib
import errno
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from tracer.containers.cgroupfs import find_cgroup2_mount

_PREFIX = "tracer-test-"


def own_name() -> str:
    """A name that says which process made the cgroup."""
    return f"{_PREFIX}{os.getpid()}-{uuid.uuid4().hex}"


def remove_tree(top: Path) -> None:
    """Removes a cgroup and all below it; what runs in them is killed."""
    _kill(top)
    for directory, children, _files in os.walk(top, topdown=False):
        for child in children:
            _remove(Path(directory) / child)
    _remove(top)


def remove_what_dead_tests_left() -> None:
    """Removes the cgroups whose names say that a process made them which is no more."""
    for cgroup in find_cgroup2_mount().glob(f"{_PREFIX}*"):
        maker = cgroup.name.removeprefix(_PREFIX).split("-")[0]
        if not Path("/proc", maker).exists():
            remove_tree(cgroup)


def _kill(top: Path) -> None:
    # Another session of tests may remove the same one meanwhile: ENODEV is of a file of a cgroup that is gone.
    if (top / "cgroup.kill").exists():
        with _unless_gone():
            (top / "cgroup.kill").write_text("1")
        return
    # Kernels before 5.14.
    for procs in top.rglob("cgroup.procs"):
        with _unless_gone():
            for pid in procs.read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise


def _remove(cgroup: Path) -> None:
    # The last task is gone from the process list before it is gone from the cgroup.
    for _attempt in range(500):
        try:
            cgroup.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
    cgroup.rmdir()
