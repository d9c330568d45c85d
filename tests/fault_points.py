# SPDX-License-Identifier: Apache-2.0
"""Programs killed on entering any one of their system calls, by strace: fault points without a word in the program.

What is on disk changes by system calls only, so a program that was killed at each of those that can change something
was killed in every state that it can leave behind.
"""

import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_CHANGING = (
    "mkdir mkdirat open openat creat write pwrite64 writev pwritev ftruncate fallocate fsync fdatasync link linkat "
    "rename renameat renameat2 unlink unlinkat rmdir chmod fchmod fchmodat chown fchown fchownat flock"
)
# A processor may not have all of them.
_TRACED = ",".join(f"?{name}" for name in _CHANGING.split())
_LINE = re.compile(r"(?P<name>[a-z0-9]+)\((?P<arguments>.*)")


class Call(NamedTuple):
    """The `number`th system call of that name, from 1 on, since strace began to look."""

    name: str
    number: int
    shown: str


def calls_of(action: Callable[[], object], log: Path) -> list[Call]:
    """Runs `action` to its end in a process of its own; the system calls with which it may have changed something."""
    assert _run(action, ["-o", str(log), "-e", f"trace={_TRACED}"]) == 0
    calls, seen = [], Counter[str]()
    for line in log.read_text().splitlines():
        if (match := _LINE.match(line)) is None:
            continue
        name, arguments = match.groups()
        seen[name] += 1
        if not name.startswith("open") or "O_CREAT" in arguments or "O_TMPFILE" in arguments:
            calls.append(Call(name, seen[name], line[:120]))
    return calls


def killed_at(action: Callable[[], object], call: Call) -> None:
    """Runs `action` in a process of its own, which is killed as it enters that system call."""
    inject = f"inject={call.name}:signal=KILL:when={call.number}"
    code = _run(action, ["-o", "/dev/null", "-e", f"trace={call.name}", "-e", inject])
    assert code == -signal.SIGKILL, f"it ended with {code} before {call.shown}"


def _run(action: Callable[[], object], options: list[str]) -> int:
    """The exit code of a process that does `action` under strace with `options`; a signal's number is below zero."""
    waiting, let_go = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(let_go)
            os.read(waiting, 1)
            action()
            code = 0
        finally:
            os._exit(code)
    os.close(waiting)
    try:
        strace = subprocess.Popen(["strace", "-p", str(pid), *options], stderr=subprocess.PIPE, text=True)
        with strace:
            assert strace.stderr is not None
            attached = strace.stderr.readline()
            os.close(let_go)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            assert "attached" in attached, attached
            return code
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
