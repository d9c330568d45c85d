# SPDX-License-Identifier: Apache-2.0
"""A comparison for people."""

from collections.abc import Sequence
from typing import Final

from tracer.analysis.comparison.limits import Verdict
from tracer.analysis.comparison.metrics import METRICS
from tracer.analysis.comparison.results import Comparison, LoneWorkload, MetricChange, Side, WorkloadChange
from tracer.analysis.moments import moment_text
from tracer.cli.layout import Column
from tracer.cli.printing import TextOutput

_TITLES: Final = {metric.name: metric.title for metric in METRICS}
_MOST_ROWS: Final = 10
_FEW: Final = 3
_LARGEST_PERCENT: Final = 1000
_LEGEND: Final = (
    "At stake: CPU time that was surely gained or lost. EFFECT: -1 or +1 where all slices of B are below or above A's "
    "(Cliff's delta)."
)
_TERMS: Final = {
    "cpi": "CPI: cycles per instruction.",
    "misses_per_kilo_instruction": "MPKI: LLC misses per 1000 instructions.",
    "wait_slowdown": "Run-queue slowdown: (running + waiting for a CPU) / running.",
}


def print_comparison(comparison: Comparison, output: TextOutput, *, everything: bool) -> None:
    """What changed, what did not, what is in one of both only; of each the most costly, or `everything`."""
    for letter, side in (("A", comparison.before), ("B", comparison.after)):
        output.say(_side_text(side), first=f"{letter}  ", further="   ")
    changed = [one for one in comparison.workloads if any(change.holds for change in one.changes)]
    others = [one for one in comparison.workloads if one not in changed]
    output.say()
    if changed:
        output.say("CHANGED (the chance that any of these lines is noise is at most 5 %)")
        _print_changes(output, changed, everything=everything)
    elif comparison.tests:
        output.say(f"No change was found that could not be chance, in {comparison.tests} comparisons.")
    else:
        output.say("Nothing could be compared.")
    if others:
        output.say()
        output.say("NO CHANGE FOUND")
        _print_unchanged(output, others, everything=everything)
    for letter, lone in (("A", comparison.only_before), ("B", comparison.only_after)):
        if lone:
            output.say()
            output.say(f"ONLY IN {letter}: {_lone_text(lone, len(lone) if everything else _FEW)}")
    output.say()
    for caveat in comparison.caveats:
        output.say(f"note: {caveat.text}")
    for verdict in comparison.verdicts:
        output.say(_verdict_text(verdict))


def _print_changes(output: TextOutput, changed: Sequence[WorkloadChange], *, everything: bool) -> None:
    """Most is at stake where the most CPU time was surely gained or lost."""
    columns = [Column("", "name"), *map(Column, ("A", "B", "CHANGE")), Column("95 % INTERVAL", short="95 % CI")]
    shown = changed if everything else changed[:_MOST_ROWS]
    rows: list[list[str]] = []
    for workload in shown:
        rows.append([f"{workload.name}, {_figure(workload.cores_at_stake)} cores at stake"])
        rows += [
            [
                f"  {_TITLES[change.metric]}",
                _figure(change.before),
                _figure(change.after),
                _percent(change.change),
                _interval(change),
                f"{change.effect:+.2f}",
            ]
            for change in workload.changes
            if everything or change.holds
        ]
    output.print_table([*columns, Column("EFFECT")], rows)
    if len(shown) < len(changed):
        most = _figure(changed[len(shown)].cores_at_stake)
        output.say(f"... and {len(changed) - len(shown)} more, with {most} cores at stake or less (--all shows them)")
    metrics = {change.metric for workload in shown for change in workload.changes if everything or change.holds}
    output.say(" ".join(text for text in (_LEGEND, *(_TERMS[one] for one in _TERMS if one in metrics))))


def _print_unchanged(output: TextOutput, workloads: Sequence[WorkloadChange], *, everything: bool) -> None:
    """Within which bounds there may be a change after all: of the CPI where it was counted, else of the CPU time."""
    workloads = sorted(workloads, key=lambda one: -one.cores_after)
    shown = workloads if everything else workloads[:_MOST_ROWS]
    rows = []
    for workload in shown:
        bounds = [f"{_TITLES[change.metric]} {_interval(change)}" for change in workload.changes]
        reasons = [f"{_TITLES[metric]}: {reason}" for metric, reason in workload.not_compared.items()]
        told = [*bounds, *reasons] if everything else (bounds or reasons)[:1]
        cores = [_figure(workload.cores_before), _figure(workload.cores_after)]
        rows += [
            [*(["", "", ""] if number else [workload.name, *cores]), text] for number, text in enumerate(told or [""])
        ]
    columns = [Column("WORKLOAD", "name"), Column("CORES A"), Column("CORES B"), Column("MAY HAVE CHANGED BY", "prose")]
    output.print_table(columns, rows)
    if len(shown) < len(workloads):
        most = _figure(workloads[len(shown)].cores_after)
        output.say(f"... and {len(workloads) - len(shown)} more, of {most} cores in B or less (--all shows them)")


def _side_text(side: Side) -> str:
    nodes = ", ".join(side.nodes[:_FEW]) + (
        f" and {len(side.nodes) - _FEW} more nodes" if len(side.nodes) > _FEW else ""
    )
    runs = f"run {side.runs[0][:8]}" if len(side.runs) == 1 else f"{len(side.runs) or 'unknown'} runs"
    return (
        f"{side.directory}: {_seconds(side.seconds)} from {moment_text(side.start)}, {runs} on {nodes}, "
        f"{_figure(side.cores)} cores"
    )


def _lone_text(lone: Sequence[LoneWorkload], most: int) -> str:
    text = ", ".join(f"{one.name} ({_figure(one.cores)} cores)" for one in lone[:most])
    return text + (f", and {len(lone) - most} more" if len(lone) > most else "")


def _verdict_text(verdict: Verdict) -> str:
    if verdict.exceeded:
        worst = "; ".join(
            f"{one.workload}, {_percent(one.change)}, surely {_percent(one.at_least)}"
            for one in verdict.exceeded[:_FEW]
        )
        more = f"; and {len(verdict.exceeded) - _FEW} more" if len(verdict.exceeded) > _FEW else ""
        return f"{verdict.limit}: EXCEEDED by {worst}{more}"
    judged = verdict.kept + verdict.undecided
    return f"{verdict.limit}: exceeded by none of {judged}, surely kept by {verdict.kept}"


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
    if percent > _LARGEST_PERCENT:
        return f">{_LARGEST_PERCENT} %"
    return f"{percent:+.0f} %" if abs(percent) >= 100 else f"{percent:+.1f} %"
