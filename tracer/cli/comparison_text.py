# SPDX-License-Identifier: Apache-2.0
"""A comparison for people, in 80 columns."""

from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from tracer.analysis.comparison.limits import Verdict
from tracer.analysis.comparison.metrics import METRICS
from tracer.analysis.comparison.results import Comparison, LoneWorkload, MetricChange, Side, WorkloadChange
from tracer.analysis.moments import moment_text
from tracer.cli.printing import NameColumn, printable
from tracer.printable import printable as harmless

_TITLES: Final = {metric.name: metric.title for metric in METRICS}
_MOST_ROWS: Final = 10
_FEW: Final = 3
_LARGEST_PERCENT: Final = 1000


def print_comparison(comparison: Comparison, console: Console, *, everything: bool) -> None:
    """What changed, what did not, what is in one of both only; of each the most costly, or `everything`."""
    most = None if everything else _MOST_ROWS
    for letter, side in (("A", comparison.before), ("B", comparison.after)):
        _print_line(console, f"{letter}  {_side_text(side)}")
    changed, others = [], []
    for workload in comparison.workloads:
        holding = [change for change in workload.changes if change.holds]
        if holding:
            changed.append((workload, workload.changes if everything else holding))
        else:
            others.append(workload)
    _print_line(console, "")
    if changed:
        _print_line(console, "CHANGED (the chance that any of these lines is noise is at most 5 %)")
        _print_changes(console, changed[:most])
        _print_rest(console, len(changed[:most]), len(changed))
    elif comparison.tests:
        _print_line(console, f"No change was found that could not be chance, in {comparison.tests} comparisons.")
    else:
        _print_line(console, "Nothing could be compared.")
    if others:
        _print_line(console, "\nNO CHANGE FOUND")
        _print_unchanged(console, others[:most], everything=everything)
        _print_rest(console, len(others[:most]), len(others))
    for letter, lone in (("A", comparison.only_before), ("B", comparison.only_after)):
        if lone:
            _print_line(console, f"\nONLY IN {letter}: {_lone_text(lone, len(lone) if everything else _FEW)}")
    _print_line(console, "")
    for caveat in comparison.caveats:
        _print_line(console, f"note: {caveat.text}")
    for verdict in comparison.verdicts:
        _print_line(console, _verdict_text(verdict))


def _print_changes(console: Console, changed: Iterable[tuple[WorkloadChange, Sequence[MetricChange]]]) -> None:
    table = _table("", "A", "B", "CHANGE", "95 % INTERVAL", "EFFECT")
    changed = list(changed)
    names = NameColumn((workload.name for workload, _changes in changed), console)
    for workload, changes in changed:
        table.add_row(names.cell(workload.name))
        for change in changes:
            table.add_row(
                f"  {_TITLES[change.metric]}",
                _figure(change.before),
                _figure(change.after),
                _percent(change.change),
                _interval(change),
                f"{change.effect:+.2f}",
            )
    console.print(table)


def _print_unchanged(console: Console, workloads: Iterable[WorkloadChange], *, everything: bool) -> None:
    """Within which bounds there may be a change after all: of the CPI where it was counted, else of the CPU time."""
    table = _table("WORKLOAD", "CORES A", "CORES B", "MAY HAVE CHANGED BY")
    workloads = list(workloads)
    names = NameColumn((workload.name for workload in workloads), console)
    for workload in workloads:
        bounds = [f"{_TITLES[change.metric]} {_interval(change)}" for change in workload.changes]
        reasons = [f"{_TITLES[metric]}: {reason}" for metric, reason in workload.not_compared.items()]
        shown = [*bounds, *reasons] if everything else (bounds or reasons)[:1]
        table.add_row(
            names.cell(workload.name),
            _figure(workload.cores_before),
            _figure(workload.cores_after),
            "\n".join(shown),
        )
    console.print(table)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(first, no_wrap=True, ratio=1)
    for title in others:
        table.add_column(title, no_wrap=True, justify="right")
    table.expand = True
    return table


def _print_rest(console: Console, shown: int, of: int) -> None:
    if shown < of:
        _print_line(console, f"... and {of - shown} more, with less at stake (--all shows them)")


def _print_line(console: Console, text: str) -> None:
    console.print(printable(text, console))


def _side_text(side: Side) -> str:
    nodes = ", ".join(side.nodes[:_FEW]) + (
        f" and {len(side.nodes) - _FEW} more nodes" if len(side.nodes) > _FEW else ""
    )
    runs = f"run {side.runs[0][:8]}" if len(side.runs) == 1 else f"{len(side.runs) or 'unknown'} runs"
    return (
        f"{_name(side.directory)}: {_seconds(side.seconds)} from {moment_text(side.start)}, {runs} on {_name(nodes)}, "
        f"{_figure(side.cores)} cores"
    )


def _lone_text(lone: Sequence[LoneWorkload], most: int) -> str:
    text = ", ".join(f"{_name(one.name)} ({_figure(one.cores)} cores)" for one in lone[:most])
    return text + (f", and {len(lone) - most} more" if len(lone) > most else "")


def _verdict_text(verdict: Verdict) -> str:
    if verdict.exceeded:
        worst = "; ".join(
            f"{_name(one.workload)}, {_percent(one.change)}, surely {_percent(one.at_least)}"
            for one in verdict.exceeded[:_FEW]
        )
        more = f"; and {len(verdict.exceeded) - _FEW} more" if len(verdict.exceeded) > _FEW else ""
        return f"{verdict.limit}: EXCEEDED by {worst}{more}"
    judged = verdict.kept + verdict.undecided
    return f"{verdict.limit}: exceeded by none of {judged}, surely kept by {verdict.kept}"


def _name(name: str) -> str:
    return harmless(name.encode("utf-8", "surrogatepass"))


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 1000 else f"{seconds:.4g} s"


def _figure(value: float) -> str:
    """Three digits, and thousands as k, M, G."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.3g}"


def _interval(change: MetricChange) -> str:
    return f"{_percent(change.low).removesuffix(' %')} .. {_percent(change.high)}"


def _percent(change: float) -> str:
    percent = 100 * change
    return f">{_LARGEST_PERCENT} %" if percent > _LARGEST_PERCENT else f"{percent:+.1f} %"
