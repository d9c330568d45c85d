# SPDX-License-Identifier: Apache-2.0
"""A resctrl file system that behaves like the kernel's, mounted for a test: `ResctrlModel` served through FUSE.

What is mounted:

    resctrl/                        as /sys/fs/resctrl
    proc/<tid>/cpu_resctrl_groups   as /proc/<pid>/cpu_resctrl_groups, for every thread of the node
    control                         a write is a JSON list: the name of one of `_COMMANDS` and its arguments

mfusepy serves it: of the kept bindings (pyfuse3, llfuse, fuse-python, mfusepy) the one with a wheel, as the locked
environment demands, for libfuse 2 and 3 and with the calling thread's id. It runs in a process of its own: a file
system cannot be served by the process that waits for it.
"""

import contextlib
import ctypes
import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resctrl_model import SUM, Machine, ResctrlModel

_MOUNT_SECONDS = 20
_PR_SET_PDEATHSIG = 1


class FakeResctrl:
    """Mounted from `with` to its end at `top`, an empty directory."""

    def __init__(self, top: Path, machine: Machine | None = None) -> None:
        self._top = top
        self._machine = machine or Machine()
        self.root = top / "resctrl"
        self.proc = top / "proc"

    def __enter__(self) -> "FakeResctrl":
        machine = self._machine
        arguments = {
            "num_rmids": machine.num_rmids,
            "num_closids": machine.num_closids,
            "domains": list(machine.domains.items()),
            "features": machine.features,
        }
        self._server = subprocess.Popen([sys.executable, __file__, str(self._top), json.dumps(arguments)])
        deadline = time.monotonic() + _MOUNT_SECONDS
        while not (self._top / "control").exists():
            assert self._server.poll() is None, "the file system could not be mounted"
            assert time.monotonic() < deadline, "the file system is not there"
            time.sleep(0.01)
        return self

    def __exit__(self, *_exception: object) -> None:
        # The server unmounts what it serves when it is told to end.
        self._server.terminate()
        self._server.wait()

    def groups(self) -> set[str]:
        """Paths of all groups but the root group, from the root of the file system."""
        groups = set()
        for control in [self.root, *(child for child in self.root.iterdir() if (child / "mon_groups").is_dir())]:
            path = str(control.relative_to(self.root)).removeprefix(".")
            groups |= {f"/{path}"} if path else set()
            groups |= {f"{path and '/'}{path}/mon_groups/{child.name}" for child in (control / "mon_groups").iterdir()}
        return groups

    def tasks(self, group: str) -> set[int]:
        """The threads in a group."""
        return set(map(int, (self.root / group.lstrip("/") / "tasks").read_text().split()))

    def move(self, group: str, tid: int) -> None:
        """Puts a thread into a group."""
        (self.root / group.lstrip("/") / "tasks").write_text(str(tid))

    def count(self, group: str, domain: int, event: str, amount: int, node: int = SUM) -> None:
        """Has a counter of a group rise."""
        self._command("count", group, domain, event, amount, node)

    def say(self, group: str, domain: int, event: str, text: str | None) -> None:
        """Has a file say this instead of its number; None: the number again. The group is a name, or `*`."""
        self._command("say", group, domain, event, text)

    def release_limbo(self) -> None:
        """Gives the RMIDs of removed groups free."""
        self._command("release_limbo")

    def take_offline(self, domain: int) -> None:
        """Takes the last CPU of a domain offline."""
        self._command("take_offline", domain)

    def put_online(self, domain: int) -> None:
        """Brings a domain back; its counters begin anew."""
        self._command("put_online", domain)

    def _command(self, *command: object) -> None:
        (self._top / "control").write_text(json.dumps(command))


def _serve(top: str, machine: Machine) -> None:
    import mfusepy

    class Served(mfusepy.Operations):  # type: ignore[misc, name-defined]
        """All calls on paths; the file system has no state beside the model's."""

        use_ns = True

        def __init__(self) -> None:
            self._model = ResctrlModel(machine)

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:  # noqa: ARG002
            directory = self._names(path) is not None
            mode = stat.S_IFDIR | 0o755 if directory else stat.S_IFREG | 0o644
            return {"st_mode": mode, "st_nlink": 2 if directory else 1, "st_uid": 0, "st_gid": 0, "st_size": 0}

        def readdir(self, path: str, fh: int) -> list[str]:  # noqa: ARG002
            names = self._names(path)
            if names is None:
                raise OSError(errno.ENOTDIR, "a file")
            return [".", "..", *names]

        def mkdir(self, path: str, mode: int) -> int:  # noqa: ARG002
            self._model.make(_in_resctrl(path))
            return 0

        def rmdir(self, path: str) -> int:
            self._model.remove(_in_resctrl(path))
            return 0

        def open(self, path: str, flags: int) -> int:  # noqa: ARG002
            return 0

        def truncate(self, path: str, length: int, fh: int | None = None) -> int:  # noqa: ARG002
            return 0

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:  # noqa: ARG002
            match _components(path):
                case ["resctrl", *inside]:
                    text = self._model.read(tuple(inside))
                case ["proc", tid, "cpu_resctrl_groups"]:
                    text = self._model.groups_text(int(tid))
                case _:
                    text = ""
            return text.encode()[offset : offset + size]

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:  # noqa: ARG002
            if path == "/control":
                name, *arguments = json.loads(data)
                _COMMANDS[name](self._model, *arguments)
            else:
                _uid, _gid, writer = mfusepy.fuse_get_context()
                self._model.write_tasks(_in_resctrl(path), data.decode(errors="replace"), writer)
            return len(data)

        def _names(self, path: str) -> list[str] | None:
            match _components(path):
                case []:
                    return ["resctrl", "proc", "control"]
                case ["control"]:
                    return None
                case ["resctrl", *inside]:
                    return self._model.names(tuple(inside))
                case ["proc"]:
                    return os.listdir("/proc")  # noqa: PTH208
                case ["proc", tid] if tid.isdigit() and Path("/proc", tid).exists():
                    return ["cpu_resctrl_groups"]
                case ["proc", tid, "cpu_resctrl_groups"] if tid.isdigit() and Path("/proc", tid).exists():
                    return None
            raise OSError(errno.ENOENT, "no such file")

    # direct_io: files of kernfs have size 0 and are read all the same.
    mfusepy.FUSE(
        Served(),
        top,
        foreground=True,
        nothreads=True,
        direct_io=True,
        attr_timeout=0,
        entry_timeout=0,
        fsname="resctrl",
    )


def _components(path: str) -> list[str]:
    return [component for component in path.split("/") if component]


def _in_resctrl(path: str) -> tuple[str, ...]:
    first, *inside = _components(path)
    if first != "resctrl":
        raise OSError(errno.EPERM, "not in resctrl")
    return tuple(inside)


def _count(model: ResctrlModel, group: str, *arguments: Any) -> None:
    model.count(tuple(_components(group)), *arguments)


def _say(model: ResctrlModel, group: str, domain: int, event: str, text: str | None) -> None:
    if text is None:
        del model.texts[group, domain, event]
    else:
        model.texts[group, domain, event] = text


_COMMANDS: dict[str, Callable[..., None]] = {
    "count": _count,
    "say": _say,
    "release_limbo": ResctrlModel.release_limbo,
    "take_offline": ResctrlModel.take_offline,
    "put_online": ResctrlModel.put_online,
}

if __name__ == "__main__":
    # A test that is killed leaves no mount behind.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    given = json.loads(sys.argv[2])
    with contextlib.suppress(RuntimeError):  # ended by a signal
        _serve(sys.argv[1], Machine(**given | {"domains": dict(given["domains"])}))
