# SPDX-License-Identifier: Apache-2.0
"""Lines about a run on standard error, beside whatever a command prints.

Where that is the journal of systemd, each has its priority before it (sd-daemon(3)): told, a warning, or an error.
"""

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path

from tracer.cli.calling import command_name

# Of syslog(3), by how a line begins.
_PRIORITIES = {"error: ": 3, "warning: ": 4}
_LOSS, _INFORMATION = 4, 6


def say(text: str, *, quiet: bool = False, is_loss: bool = False) -> None:
    """A line on standard error, unless it is to be quiet. `is_loss`: it tells of data that is gone."""
    if quiet:
        return
    priority = next((number for begin, number in _PRIORITIES.items() if text.startswith(begin)), _INFORMATION)
    if is_loss:
        priority = min(priority, _LOSS)
    # The terminal may be gone; the run goes on.
    with suppress(OSError):
        print(f"{f'<{priority}>' if _is_journal() else ''}tracer: {text}", file=sys.stderr, flush=True)


def _is_journal() -> bool:
    """JOURNAL_STREAM of systemd.exec(5) says which file that is; who is started from here may have another."""
    with suppress(OSError, ValueError):
        status = os.fstat(sys.stderr.fileno())
        return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
    return False


def say_next(subcommand: str, *arguments: str | Path, as_root: bool = False, quiet: bool = False) -> None:
    """A command to type, that can be copied."""
    sudo = "sudo " if as_root and "SUDO_UID" in os.environ else ""
    say(f"next: {sudo}{command_name()} {shlex.join((subcommand, *map(str, arguments)))}", quiet=quiet)
