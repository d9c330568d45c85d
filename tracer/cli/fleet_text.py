# SPDX-License-Identifier: Apache-2.0
"""A report on a fleet for people."""

from typing import Final

from tracer.analysis.fleet.compacting import Compacted
from tracer.analysis.fleet.losses import FOUND_SHARE
from tracer.analysis.fleet.results import FleetNode, FleetReport, LostTo, Outlier, WorkloadCpi
from tracer.analysis.moments import span_text
from tracer.analysis.wording import percent, time_text
from tracer.cli.layout import Column
from tracer.cli.printing import TextOutput
from tracer.units import format_bytes

_INDENT: Final = 2


def print_fleet(report: FleetReport, output: TextOutput) -> None:
    """What was lost in all, the pairs, the processors, and the nodes."""
    output.say(f"{_count(report.nodes, 'node')}, {span_text(report.start, report.end)}, "
               f"{_count(report.workloads, 'workload')}.")  # fmt: skip
    if report.lost_waiting_ns is not None:
        share = percent(report.lost_waiting_ns / max(report.recorded_cpu_ns, 1))
        output.say(
            f"Tasks waited {time_text(report.lost_waiting_ns)} for CPUs behind other containers, {share} of the CPU "
            f"time there was ({time_text(report.recorded_cpu_ns)}); {time_text(report.held_back_ns or 0.0)} of it "
            "behind such as had more."
        )
        _print_losses(report, output)
    if report.cpi:
        _print_cpi(report, output)
    if report.look_at_first:
        _print_nodes(report, output)
    if report.notes:
        output.say()
    for note in report.notes:
        output.say(f"note: {note}")


def compacted_text(hour: Compacted) -> str:
    """What became of an hour, in a line."""
    parts = []
    if hour.periods:
        parts.append(
            f"{hour.files_before:,} files of {_count(hour.periods, 'run')} ({format_bytes(hour.bytes_before)}) are "
            f"{hour.files:,} ({format_bytes(hour.bytes)}), {hour.rows:,} rows"
        )
    if hour.known:
        parts.append(f"{_count(hour.known, 'run')} compacted before")
    if hour.left:
        parts.append(f"{_count(hour.left, 'run')} not over then, left for later")
    if hour.registered:
        parts.append(f"{_count(hour.registered, 'file')} registered")
    if hour.deleted:
        parts.append("originals removed")
    return f"{hour.hour}: {'; '.join(parts)}"


def _print_losses(report: FleetReport, output: TextOutput) -> None:
    if not report.lost_to:
        return
    output.say()
    output.say("Who waited behind whom:")
    columns = (
        Column("VICTIM", "name"), Column("LOST"), Column("HELD BACK", short="HELD"), Column("OF ALL"),
        Column("OF ITS TIME", short="OF ITS"),
        Column("NODES"), Column("AGGRESSOR", "name"),
    )  # fmt: skip
    output.print_table(columns, map(_loss_row, report.lost_to), indent=_INDENT)
    _say_more(report.pairs - len(report.lost_to), output)
    output.say(
        "HELD BACK: where the aggressor had more CPU time than the victim. NODES: those on which LOST was "
        f"{percent(FOUND_SHARE)} of the victim's time or more, of those with both.",
        first=" " * _INDENT,
    )


def _loss_row(one: LostTo) -> list[str]:
    return [
        one.victim, time_text(one.lost_ns), time_text(one.held_back_ns), percent(one.share_of_lost),
        percent(one.share_of_time), f"{one.nodes_found}/{one.nodes_together}", one.aggressor,
    ]  # fmt: skip


def _print_cpi(report: FleetReport, output: TextOutput) -> None:
    output.say()
    output.say("Cycles per instruction, on nodes with the same processor:")
    columns = (
        Column("WORKLOAD", "name"), Column("CPI"), Column("+-"), Column("NODES"), Column("OUT"),
        Column("PROCESSOR", "name"),
    )  # fmt: skip
    output.print_table(columns, map(_cpi_row, report.cpi), indent=_INDENT)
    output.say("CPI: the median of the nodes. OUT: of them, those far above it.", first=" " * _INDENT)
    if report.outliers:
        output.say()
        output.say("Far above the others of their kind:")
        of_outliers = (
            Column("NODE", "name"), Column("WORKLOAD", "name"), Column("CPI"), Column("OTHERS"), Column("LOST"),
        )  # fmt: skip
        output.print_table(of_outliers, map(_outlier_row, report.outliers), indent=_INDENT)
        _say_more(report.outliers_found - len(report.outliers), output)


def _cpi_row(one: WorkloadCpi) -> list[str]:
    return [
        one.workload, f"{one.cpi:.2f}", f"{one.spread:.2f}", str(one.nodes), str(one.outliers), one.cpu_model,
    ]  # fmt: skip


def _outlier_row(one: Outlier) -> list[str]:
    return [one.node_name, one.workload, f"{one.cpi:.2f}", f"{one.median_cpi:.2f}", time_text(one.excess_ns)]


def _print_nodes(report: FleetReport, output: TextOutput) -> None:
    output.say()
    output.say("Nodes to look at first:")
    columns = (Column("NODE", "name"), Column("LOST"), Column("PER CPU TIME", short="SHARE"), Column("MOSTLY", "text"))
    output.print_table(columns, map(_node_row, report.look_at_first), indent=_INDENT)


def _node_row(one: FleetNode) -> list[str]:
    lost = (one.held_back_ns or 0.0) + one.lost_cycles_ns
    if one.slow_workload is not None and one.lost_cycles_ns > (one.held_back_ns or 0.0):
        why = f"{one.slow_workload} needs more cycles than elsewhere"
    else:
        why = f"{one.victim} behind {one.aggressor}"
    return [one.node_name, time_text(lost), percent(one.share_of_time), why]


def _say_more(more: int, output: TextOutput) -> None:
    if more > 0:
        output.say(f"... and {more:,} more (--top)", first=" " * _INDENT)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
