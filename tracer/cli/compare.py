# SPDX-License-Identifier: Apache-2.0
"""`tracer compare`: what changed from one recording to another."""

import sys
from typing import Annotated

import typer

from tracer.cli.choosing import Containers, Namespace
from tracer.cli.json_output import print_answer
from tracer.cli.recordings import Local, Nodes, open_told

_OVER_LIMIT = 1


def compare(
    before: Annotated[str, typer.Argument(metavar="A", help="DIR, DIR@RUN, DIR@FROM..TO or DIR@RUN@FROM..TO")],
    after: Annotated[str, typer.Argument(metavar="B", help="The same; it is told how B differs from A.")],
    fail_on: Annotated[
        list[str] | None,
        typer.Option(metavar="LIMIT", help="Exit with 1 if a change is beyond it, such as 'cpi>5%'; may be repeated."),
    ] = None,
    node: Nodes = None,
    container: Containers = None,
    namespace: Namespace = None,
    local: Local = False,
    everything: Annotated[bool, typer.Option("--all", help="Show all workloads and all that was compared.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Show what changed for each workload from A to B, the most costly first, and how sure that is.

    A and B are what `tracer run` wrote: the newest run in DIR, the one whose id
    begins with RUN, `last` or `all`, or what was recorded from FROM to before TO,
    either of which may be missing: DIR@14:00..14:10, DIR@..+30s, DIR@-5m.. (UTC,
    since the start, before the end; times are as for `tracer report --since`).
    Pods are matched by the name of what made them: web-7d9f8c6b5d-x2x7q is web.

    A limit is METRIC>5% for a rise or METRIC<-5% for a fall, of cpi,
    misses_per_kilo_instruction, instructions_per_second, cores,
    wait_slowdown (by waiting for CPUs) or context_switches_per_second. It
    is exceeded if the whole interval is beyond it, so that noise is no failure.
    Exit code: 0 if none was, 1 if one was, 2 if one could not be judged, as
    nothing of the kind was measured.
    """
    from tracer.analysis.comparison import limits
    from tracer.analysis.comparison.compare import compare as compare_recordings

    wanted = [limits.parse_limit(text) for text in fail_on or ()]
    first, second = (
        open_told([text], local=local, container=container, namespace=namespace, nodes=node) for text in (before, after)
    )
    comparison = compare_recordings(first, second, wanted)
    if as_json:
        print_answer(comparison)
    else:
        from tracer.cli.comparison_text import print_comparison
        from tracer.cli.printing import TextOutput

        print_comparison(comparison, TextOutput(), everything=everything)
    exceeded = [verdict.limit for verdict in comparison.verdicts if verdict.exceeded]
    if exceeded:
        # A defect has the same exit code, and other words.
        print(f"tracer: limit exceeded: {', '.join(exceeded)}", file=sys.stderr)
        raise typer.Exit(_OVER_LIMIT)
