# SPDX-License-Identifier: Apache-2.0
"""`tracer fleet`: the same questions on many nodes at once."""

from typing import Annotated, Final

import typer

from tracer.cli.choosing import Containers, Namespace
from tracer.cli.command_class import Command, Group
from tracer.cli.json_output import print_answer
from tracer.cli.progress import step_bar
from tracer.cli.recordings import Engine, Local, Nodes, Since, Sources, Until, say_choices
from tracer.errors import UsageError

_SMALLEST: Final = 2**20
_LARGEST: Final = 2**32

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
    what made them: web-7d9f8c6b5d-x2x7q is web, and db-0 and db-1 are db. Cycles
    per instruction are held against those of the same workload on nodes with
    the same processor. What one node's containers do to each other, `tracer
    report --node` says.
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


@fleet.command(cls=Command)
def compact(
    source: Annotated[
        str, typer.Argument(metavar="URL", help="What `tracer run --upload` was given, or such a directory.")
    ],
    to: Annotated[
        str, typer.Option(metavar="URL", help="Where the large files go; may be the same.", show_default=False)
    ],
    since: Since = None,
    until: Until = None,
    size: Annotated[str, typer.Option(metavar="SIZE", help="About how large files become: 1MiB to 4GiB.")] = "256MiB",
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove what is in the large files now; else nothing is.")
    ] = False,
    spark: Annotated[
        bool, typer.Option("--spark", help="On the workers of a Spark; without it on this machine.")
    ] = False,
    register: Annotated[
        str | None,
        typer.Option(
            metavar="CATALOG",
            help="Make the large files those of Iceberg tables, in a catalogue of PyIceberg's configuration.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Put the files of each hour of all nodes together, as few large ones; of no time, those of the last hour.

    What is in large files already is left alone, so that it can be called again
    and again, and after a call that was killed; hours that are not over on a
    node follow later. `tracer fleet report` reads what became of them, at the
    place that --to names.
    """
    from tracer.analysis.fleet.compacting import compact as put_together
    from tracer.analysis.objects.finding import find_periods
    from tracer.analysis.objects.store import ObjectStore, to_url
    from tracer.cli.fleet_text import compacted_text
    from tracer.cli.mistakes import of_option
    from tracer.units import parse_bytes

    bytes_ = of_option("size", size, parse_bytes)
    if not _SMALLEST <= bytes_ <= _LARGEST:
        raise UsageError(f"--size {size}: 1MiB to 4GiB are possible")
    merge_elsewhere = None
    if spark:
        from tracer.analysis.engines.choosing import require_packages

        require_packages("spark", "--spark")
        from tracer.analysis.fleet.merging_on_spark import merge_on_spark

        merge_elsewhere = merge_on_spark()
    registrar = None
    if register is not None:
        from tracer.analysis.fleet.registering import Registrar

        registrar = Registrar(register)
    found = find_periods(ObjectStore(to_url(source)), since=since, until=until, compacted="no")
    say_choices(found)
    target = ObjectStore(to_url(to), make=True)
    with step_bar() as progress:
        for hour in put_together(
            found, target, size=bytes_, delete=delete, say=progress, merge=merge_elsewhere,
            register=None if registrar is None else registrar.register,
        ):  # fmt: skip
            print(compacted_text(hour))
