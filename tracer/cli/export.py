# SPDX-License-Identifier: Apache-2.0
"""`tracer export`: a recording in another format."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tracer.cli.choosing import Containers, Namespace
from tracer.cli.file_or_stdout import file_or_stdout, shown_name
from tracer.cli.progress import progress_bar
from tracer.cli.recordings import NAME_HELP, Local, Since, Until, open_told
from tracer.errors import UsageError


def export(
    directories: Annotated[list[str] | None, typer.Argument(metavar="DIR...", help=NAME_HELP)] = None,
    perfetto: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a trace for the Perfetto UI; - for standard output.")
    ] = None,
    since: Since = None,
    until: Until = None,
    local: Local = False,
    container: Containers = None,
    namespace: Namespace = None,
) -> None:
    """Write a recording as a trace that opens in the Perfetto UI.

    Each container has counter tracks: CPUs used, cycles per instruction,
    instructions, LLC traffic. With the `ticks` table (`tracer run --ticks`)
    these are by millisecond, and each CPU has a track of who ran on it; the
    order within a tick is not known.
    """
    if not directories or perfetto is None:
        raise UsageError("what to export, and where to? say: tracer export --perfetto FILE DIR")
    from tracer.analysis.perfetto import export_perfetto

    recording = open_told(directories, since=since, until=until, local=local, container=container, namespace=namespace)
    with (
        file_or_stdout(perfetto, option="--perfetto", suffix=".pftrace") as file,
        progress_bar("exporting") as progress,
    ):
        exported = export_perfetto(recording, file, progress=progress)
    for note in recording.notes:
        print(f"tracer: {note}", file=sys.stderr)
    print(
        f"tracer: {exported.packets:,} packets, {exported.bytes / 1e6:.1f} MB in {shown_name(perfetto)}",
        file=sys.stderr,
    )
