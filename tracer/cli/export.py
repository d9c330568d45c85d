# SPDX-License-Identifier: Apache-2.0
"""`tracer export`: a recording in another format."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tracer.cli.progress import progress_bar
from tracer.cli.recordings import NAME_HELP, Local, Since, Until, open_told
from tracer.errors import UsageError


def export(
    directories: Annotated[list[str] | None, typer.Argument(metavar="DIR...", help=NAME_HELP)] = None,
    perfetto: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a trace for the Perfetto UI.")] = None,
    since: Since = None,
    until: Until = None,
    local: Local = False,
    container: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this container (pod/name, or an id).")
    ] = None,
    namespace: Annotated[str | None, typer.Option(metavar="NAME", help="Only this Kubernetes namespace.")] = None,
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
    with progress_bar("exporting") as progress:
        exported = export_perfetto(recording, perfetto, progress=progress)
    for note in recording.notes:
        print(f"tracer: {note}", file=sys.stderr)
    print(f"tracer: {exported.packets:,} packets, {exported.bytes / 1e6:.1f} MB in {perfetto}", file=sys.stderr)
