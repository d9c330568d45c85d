# SPDX-License-Identifier: Apache-2.0
"""`tracer fleet`: the same questions on many nodes at once."""

from typing import Annotated

import typer

from tracer.cli.choosing import Containers, Namespace
from tracer.cli.command_class import Command, Group
from tracer.cli.json_output import print_answer
from tracer.cli.recordings import Engine, Local, Nodes, Since, Sources, Until, say_choices

fleet = typer.Typer(
    cls=Group, no_args_is_help=True, help="Ask about many nodes at once, and tidy up what they recorded."
)


@fleet.command(cls=Command)
def report(
    sources: Sources,
    since: Since = None,
    until: Until = None,
    local: Local = False,
    node: Nodes = None,
    container: Containers = None,
    namespace: Namespace = None,
    top: Annotated[int, typer.Option(min=1, help="How many of each list are shown.")] = 10,
    engine: Engine = "polars",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing shortened.")] = False,
) -> None:
    """Say which workloads lose how much to which others over all nodes, and which nodes to look at first.

    All runs and nodes of all sources are looked at. Pods are taken together by
    what made them: web-7d9f8c6b5d-x2x7q is web. Cycles per instruction are held
    against those of the same workload on nodes with the same processor. What
    one node's containers do to each other, `tracer report --node` says.
    """
    from tracer.analysis.engines import get_engine
    from tracer.analysis.fleet.report import fleet_report
    from tracer.analysis.fleet.sources import open_source
    from tracer.naming import Selector

    chosen = get_engine(engine)
    source = open_source(sources, since=since, until=until, local=local, nodes=node or ())
    say_choices(source)
    found = fleet_report(source, chosen, top=top, containers=Selector(container or ()), namespace=namespace)
    if as_json:
        print_answer(found)
    else:
        from tracer.cli.fleet_text import print_fleet
        from tracer.cli.printing import TextOutput

        print_fleet(found, TextOutput())
