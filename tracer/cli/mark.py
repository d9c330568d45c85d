# SPDX-License-Identifier: Apache-2.0
"""`tracer mark`: have a flight recorder write what it has."""

from pathlib import Path
from typing import Annotated

import typer


def mark(
    note: Annotated[str | None, typer.Argument(metavar="[NOTE]", help="Why, for the recording's manifest.")] = None,
    socket: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="That of the run, where there are several.", show_default="the one there is"),
    ] = None,
) -> None:
    """Have a run with --recorder write the last minutes, and what comes, as a recording."""
    from tracer.live.attaching import attach

    print(attach(socket).mark(note))
