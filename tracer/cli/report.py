# SPDX-License-Identifier: Apache-2.0
"""`tracer report`: who slowed down whom, since when, and by how much."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tracer.cli.choosing import Containers, Namespace
from tracer.cli.file_or_stdout import STANDARD_OUTPUT, file_or_stdout
from tracer.cli.json_output import print_answer
from tracer.cli.progress import step_bar
from tracer.cli.recordings import Directories, Engine, Local, Nodes, Since, Until, open_told
from tracer.errors import UsageError


def report(
    directories: Directories,
    since: Since = None,
    until: Until = None,
    local: Local = False,
    node: Nodes = None,
    container: Containers = None,
    namespace: Namespace = None,
    engine: Engine = "polars",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing shortened.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write it with its pictures too, as one page for a browser; - for standard output, without the text.",
        ),
    ] = None,
) -> None:
    """Say which containers waited behind which others or lost cycles to them, when, and how much.

    Of each directory and node the newest run is looked at, unless a run or a time
    is given: DIR@RUN (`tracer runs DIR` lists them), DIR@last, DIR@all. Waiting
    for CPUs is as measured; what was lost in caches is from `ticks` where they
    were recorded, else from `windows`, with how sure it is. What else could have
    slowed a container down stands beside it: pressure, reclaim, migration, SMT.
    How it is found, and what cannot be found, is in docs/analysis.md.
    """
    if as_json and html == STANDARD_OUTPUT:
        raise UsageError("--json and --html - both write to standard output; give --html a file")
    # The analysis has threads of its own; those of the linear algebra would wait for each other, spinning.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from tracer.analysis.report import report as make_report

    recording = open_told(
        directories,
        since=since,
        until=until,
        local=local,
        container=container,
        namespace=namespace,
        nodes=node,
        engine=engine,
    )
    with step_bar() as progress:
        found = make_report(recording, progress=progress)
    if html is not None:
        # First, as a pipe that was closed early ends the text and all that would come after it.
        from tracer.analysis.pictures.page import write_page

        with file_or_stdout(html, option="--html", suffix=".html", is_text=True) as file, step_bar() as progress:
            write_page(recording, found, file, progress=progress)
        if html == STANDARD_OUTPUT:
            return
        print(f"tracer: the page is {html}", file=sys.stderr)
    if as_json:
        print_answer(found)
    else:
        from tracer.cli.printing import TextOutput
        from tracer.cli.report_text import print_report

        print_report(found, TextOutput())
