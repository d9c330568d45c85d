# SPDX-License-Identifier: Apache-2.0
"""How every command that reads recordings is told which, and of what time."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from tracer.analysis.fleet.sources import Source
    from tracer.analysis.objects.finding import Found
    from tracer.analysis.recording import Recording

NAME_HELP: Final = (
    "What `tracer run` wrote: a directory, or a URL of --upload; DIR@RUN, DIR@last or DIR@all for other runs than the "
    "newest."
)
# What answers about containers are made of: all but the longest of those that no report looks at.
_TABLES: Final = ("windows", "waits", "ticks", "resources", "llc", "lifecycle", "health")

Directories = Annotated[list[str], typer.Argument(metavar="DIR...", help=NAME_HELP)]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Only from this time on: 14:02, 2026-11-22T14:02:03Z or +01:00, epoch, -5m (before the end), +30s "
        "(after the start). UTC unless it says otherwise.",
    ),
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Only before this time.")]
Local = Annotated[bool, typer.Option("--local", help="Times are this machine's local time, given and shown.")]
Sources = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE...", help="Directories that `tracer run --output` wrote, or URLs of `--upload`."),
]
Nodes = Annotated[
    list[str] | None,
    typer.Option("--node", metavar="NAME", help="Only what this node recorded, by its --identifier; may be repeated."),
]
Engine = Annotated[
    str, typer.Option(metavar="polars|duckdb|spark", help="What adds up the rows; the answers are the same.")
]


def open_told(
    names: Sequence[str],
    *,
    since: str | None = None,
    until: str | None = None,
    local: bool = False,
    container: str | Sequence[str] | None = None,
    namespace: str | None = None,
    nodes: Sequence[str] | None = None,
    tables: Sequence[str] = _TABLES,
    engine: str = "polars",
) -> "Recording":
    """As `tracer.analysis.recording_names.open_named`; what was chosen of several runs is said on stderr."""
    from tracer.analysis.engines import get_engine
    from tracer.analysis.recording_names import open_named

    recording = open_named(
        names,
        since=since,
        until=until,
        local=local,
        container=container,
        namespace=namespace,
        nodes=nodes or (),
        tables=tables,
        engine=None if engine == "polars" else get_engine(engine),
    )
    say_choices(recording)
    return recording


def say_choices(opened: "Recording | Source | Found") -> None:
    """Which of several runs, or of what there is, are read, on stderr."""
    for text in opened.choices:
        print(f"tracer: {text}", file=sys.stderr)
