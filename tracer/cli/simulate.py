# SPDX-License-Identifier: Apache-2.0
"""`tracer simulate`: a recording of a node that does not exist."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tracer.cli.file_or_stdout import require_directory
from tracer.cli.mistakes import of_option
from tracer.cli.progress import progress_bar
from tracer.errors import UsageError
from tracer.suggestions import not_among

_DEFAULTS = {"formula": "cache-thrash", "physical": "cache-bursts"}


def simulate(
    output: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Directory for the recording.", show_default=False)
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What happens on the node, to caches or to CPUs; --list shows all.",
            show_default="cache-thrash, cache-bursts",
        ),
    ] = None,
    machine: Annotated[
        str,
        typer.Option(
            metavar="formula|physical",
            help="formula: it says how much each slows down another. physical: that comes of caches, memory and CPUs.",
        ),
    ] = "formula",
    list_: Annotated[bool, typer.Option("--list", help="List the scenarios of --machine and exit.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same tables.")] = 1,
    duration: Annotated[str, typer.Option(metavar="TIME", help="How long the node runs: 1s to 24h.")] = "60s",
    ticks: Annotated[bool, typer.Option("--ticks", help="Write each tick too (the `ticks` table).")] = False,
    cpus: Annotated[int, typer.Option(help="Logical CPUs.")] = 8,
    llc_domains: Annotated[
        int | None,
        typer.Option(metavar="N", help="Last-level caches.", show_default="one for each 4 CPUs, if that divides"),
    ] = None,
    smt: Annotated[bool, typer.Option("--smt/--no-smt", help="Two CPUs a core, or one.")] = True,
    containers: Annotated[int, typer.Option(help="Containers, aggressors apart.")] = 12,
    node: Annotated[
        str, typer.Option(metavar="NAME", help="The node's name, for recordings of several nodes.")
    ] = "simulated",
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it begins, UTC.", show_default="2026-01-05T14:00:00Z")
    ] = None,
) -> None:
    """Make a recording of a node that does not exist, to try an analysis on: what really happened is known.

    The files are those of `tracer run`; runs/<run id>/truth.json has who cost
    whom how many cycles, and when, and who waited behind whom for a CPU.
    """
    from tracer.kernel.compiler_cache import ensure_compiler_cache

    ensure_compiler_cache()
    from tracer.analysis.moments import parse_moment
    from tracer.simulate import simulate as make
    from tracer.simulate.run import DEFAULT_START, MACHINES
    from tracer.simulate.shape import NodeShape
    from tracer.simulate.truth import truth_path
    from tracer.units import parse_duration_ns

    if list_:
        from tracer.cli.layout import Column
        from tracer.cli.printing import TextOutput

        if machine not in MACHINES:
            raise UsageError(f"--machine: {not_among('machine', machine, MACHINES)}")
        scenarios = [(name, named.summary) for name, named in MACHINES[machine].items()]
        TextOutput().print_table([Column("", "word"), Column("", "prose")], scenarios)
        return
    if output is None:
        raise UsageError("where to? say: tracer simulate DIR (or --list for the scenarios)")
    require_directory(output, option="DIR")
    shape = NodeShape(cpus=cpus, llc_domains=_domains(cpus) if llc_domains is None else llc_domains, smt=smt)
    duration_ns = of_option("duration", duration, parse_duration_ns)
    with progress_bar("simulating") as progress:
        run = make(
            (_DEFAULTS.get(machine, "") if scenario is None else scenario),
            seed=seed,
            duration_ns=duration_ns,
            output=output,
            ticks=ticks,
            shape=shape,
            containers=containers,
            machine=machine,
            node_name=node,
            start=DEFAULT_START if start is None else parse_moment(start, DEFAULT_START),
            progress=progress,
        )
    rows = ", ".join(f"{count:,} rows of {table}" for table, count in sorted(run.manifest.totals.rows.items()))
    print(f"tracer: {duration_ns / 1e9:g} s simulated: {rows}; results in {output}", file=sys.stderr)
    print(f"tracer: what happened: {truth_path(output, run.manifest.run_id)}", file=sys.stderr)


def _domains(cpus: int) -> int:
    return cpus // 4 if cpus >= 4 and cpus % 4 == 0 else 1
