# SPDX-License-Identifier: Apache-2.0
"""Lines about a run on standard error, beside whatever a command prints."""

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path

from tracer.cli.calling import command_name


def say(text: str, *, quiet: bool = False) -> None:
    """A line on standard error, unless it is to be quiet."""
    # The terminal may be gone; the run goes on.
    with suppress(OSError):
        if not quiet:
            print(f"tracer: {text}", file=sys.stderr, flush=True)


def say_next(subcommand: str, *arguments: str | Path, as_root: bool = False, quiet: bool = False) -> None:
    """A command to type, that can be copied."""
    sudo = "sudo " if as_root and "SUDO_UID" in os.environ else ""
    say(f"next: {sudo}{command_name()} {shlex.join((subcommand, *map(str, arguments)))}", quiet=quiet)
