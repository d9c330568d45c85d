# SPDX-License-Identifier: Apache-2.0
"""`tracer plot`: one picture of a recording, as a file."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tracer.cli.choosing import Containers, Namespace
from tracer.cli.file_or_stdout import STANDARD_OUTPUT, file_or_stdout, shown_name
from tracer.cli.progress import step_bar
from tracer.cli.recordings import Directories, Local, Since, Until, open_told
from tracer.errors import UsageError

_SUFFIXES = (".png", ".svg")


class Kind(StrEnum):
    """What the picture shows."""

    timeline = "timeline"
    density = "density"
    matrix = "matrix"
    heatmap = "heatmap"
    resources = "resources"
    waits = "waits"


def plot(
    directories: Directories,
    kind: Annotated[
        Kind, typer.Option(metavar="KIND", help="What to show: timeline, density, matrix, heatmap, resources or waits.")
    ] = Kind.timeline,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to: a .png or .svg; - for standard output, as PNG.",
            show_default="KIND.png in this directory",
        ),
    ] = None,
    container: Containers = None,
    namespace: Namespace = None,
    node: Annotated[str | None, typer.Option(metavar="NAME", help="Which node, where several were recorded.")] = None,
    since: Since = None,
    until: Until = None,
    local: Local = False,
) -> None:
    """Draw one picture of a recording: traffic over time, CPI, who hurts whom, a heat map, memory, or waiting."""
    if output is None:
        output = Path(f"{kind.value}.png")
    if output != STANDARD_OUTPUT and output.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"--output {str(output)!r}: it must end in {' or '.join(_SUFFIXES)}")

    from tracer.analysis.objects.store import is_url
    from tracer.analysis.pictures.picture import write_picture

    # Of an object store nothing else is copied; in a directory a node is looked for by what it is called, too.
    nodes = [node] if node is not None and all(map(is_url, directories)) else None
    recording = open_told(
        directories, since=since, until=until, local=local, container=container, namespace=namespace, nodes=nodes
    )
    with (
        file_or_stdout(output, option="--output", suffix=".png") as file,
        step_bar() as progress,
    ):
        write_picture(recording, kind.value, file, node=node, progress=progress)
    for note in recording.notes:
        print(f"tracer: {note}", file=sys.stderr)
    print(f"tracer: {kind.value} in {shown_name(output)}", file=sys.stderr)
