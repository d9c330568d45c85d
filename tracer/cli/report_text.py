# SPDX-License-Identifier: Apache-2.0
"""A report as text: the answer, where the time went, who lost cycles to whom, and what bears on all that."""

from collections.abc import Iterable, Sequence

from tracer.analysis.caveats import said_once
from tracer.analysis.findings import Activity, Aggressor, Cost, Explanation, ExplanationKind, Report, TimeSpent, Victim
from tracer.analysis.latencies.wording import beside_texts, metric_text, value_text
from tracer.analysis.moments import range_text
from tracer.analysis.waits.spent import cost_ns
from tracer.analysis.waits.wording import takers
from tracer.analysis.wording import name_of, percent, recorded_text, share_with_interval, time_text, together
from tracer.cli.calling import command_name
from tracer.cli.layout import Column
from tracer.cli.printing import TextOutput

_MOST_ROWS = 10
_MOST_EXPERIMENTS = 3
_INDENT = 2
_BASES = {"ticks": "ticks of a millisecond", "windows": "windows", "cpu-time": "CPU time alone"}
_CACHES = {"ticks": "; caches estimated from ticks", "windows": "; caches estimated from windows", "cpu-time": ""}
_CAUSES = {
    "others": "others",
    "several": "several",
    "fair-share": "its fair share",
    "own-threads": "its own threads",
    "own-limit": "its own CPU limit",
    "placement": "idle CPUs",
    "unknown": "unknown",
    "little": "",
}
_HOW = {"waiting": "run queue", "throttling": "throttled", "cache": "caches"}
_KINDS: dict[ExplanationKind, str] = {
    "cpu-pressure": "CPU pressure",
    "memory-pressure": "memory pressure",
    "io-pressure": "I/O pressure",
    "migration": "migration between CPUs",
    "smt": "SMT sibling",
    "cold-cache": "cold caches",
}
_SPENT_COLUMNS = (
    Column("CONTAINER OR UNIT", "name", "CONTAINER"),
    Column("LOST"),
    Column("RAN"),
    Column("RUNQ"),
    Column("SELF"),
    Column("THROTTLED", short="THROT"),
    Column("IDLE"),
    Column("STEAL"),
    Column("CAUSE", "text"),
)
_SPENT_LEGEND = (
    "RUNQ: in the run queue behind others. SELF: behind its own threads. THROTTLED: by its CPU limit. IDLE: though "
    "its CPU was idle (placement, wake-up). STEAL: taken by the hypervisor and interrupts. LOST: THROTTLED, and RUNQ "
    "behind those that had more than their share."
)
_SURE = 0.9995


def print_report(report: Report, output: TextOutput) -> None:
    """The finding in words, then victims, other explanations, and what could have hidden something."""
    for line in report.headline:
        output.say(line)
    if report.experiments:
        output.say("An experiment on the node proves or refutes that:")
        for one in report.experiments[:_MOST_EXPERIMENTS]:
            node = f"# on {one.victim.node_name}" if len(report.nodes) > 1 else ""
            output.print_command(command_name() + one.command.removeprefix("tracer"), comment=node, indent=_INDENT)
    output.say()
    if report.time_spent:
        basis = f"waits measured at each switch{_CACHES[report.basis]}"
    else:
        basis = f"from {_BASES[report.basis]}"
    output.say(f"{recorded_text(report)}, {_nodes(report.nodes)}, {basis}.")
    if report.time_spent:
        _print_waits(report, output)
    if report.latencies:
        _print_latencies(report, output)
    if report.victims:
        _print_victims(report, output)
    for joint in report.joint:
        output.say()
        output.say(
            f"{name_of(joint.victim, report.nodes)} lost {share_with_interval(joint.lost_share)} to {together(joint)}, "
            f"who cannot be told apart; sure: {_sure(joint.confidence)}",
        )
    with_waits = {one.container.node_name for one in report.time_spent}
    others = [one for one in report.activity if one.container.node_name not in with_waits]
    if not report.victims and not report.joint and others:
        output.say()
        _print_activity(others, report.nodes, output)
    if report.caveats:
        output.say()
        output.say("What could have hidden something, or bears on this:")
        for text in said_once(report.caveats):
            output.say(text, first="- ", further="  ")


def _print_waits(report: Report, output: TextOutput) -> None:
    with_waits = {one.container.node_name for one in report.time_spent}
    if report.costs:
        output.say()
        output.say("What cost the most time:")
        columns = (
            Column("VICTIM", "name"),
            Column("LOST"),
            Column("OF ITS TIME", short="SHARE"),
            Column("AGGRESSOR", "name"),
            Column("IN", "word"),
        )
        rows = [_cost_row(cost, report.nodes) for cost in report.costs[:_MOST_ROWS]]
        output.print_table(columns, rows, indent=_INDENT)
        if rest := report.costs[_MOST_ROWS:]:
            output.say(f"{len(rest)} more with --json, of {time_text(rest[0].time_ns)} or less", first=" " * _INDENT)
    output.say()
    output.say("Where the time went, in % of it (one task that always runs or waits: 100):")
    by_loss = sorted(report.time_spent, key=lambda one: (-_lost(one), -one.wait_ns))
    shown = by_loss[:_MOST_ROWS]
    output.print_table(_SPENT_COLUMNS, [_spent_row(one, report.nodes) for one in shown], indent=_INDENT)
    if others := by_loss[_MOST_ROWS:]:
        lost = f", which lost {_figure(_lost(others[0]))} % or less" if _lost(others[0]) else ""
        output.say(f"{len(others)} more with --json{lost}", first=" " * _INDENT)
    output.say(_SPENT_LEGEND, first=" " * _INDENT)
    aggressors = [cost.by for cost in report.costs[:_MOST_ROWS] if cost.by is not None]
    if any(one.name == "/" for one in (*aggressors, *(one.container for one in shown))):
        output.say("/ is kernel threads and whatever is in no other cgroup.", first=" " * _INDENT)
    for one in (one for one in report.activity if one.container.node_name in with_waits):
        likely = [
            explanation.text
            for explanation in one.other_explanations
            # What was stolen is in the table.
            if explanation.verdict == "likely" and explanation.kind != "steal"
        ]
        if likely:
            output.say(f"{name_of(one.container, report.nodes)}: {'; '.join(likely)}", first=" " * _INDENT)


def _print_latencies(report: Report, output: TextOutput) -> None:
    output.say()
    output.say("What services measured themselves:")
    columns = (
        Column("CONTAINER", "name"),
        Column("METRIC", "name"),
        Column("VALUES"),
        Column("P50"),
        Column("P99"),
        Column("WAITED"),
        Column("BESIDE", "text"),
    )
    rows = [
        [
            name_of(one.container, report.nodes),
            metric_text(one.name),
            f"{one.values:,.0f}",
            value_text(one.p50, one.kind),
            value_text(one.p99, one.kind),
            "-" if one.waited_share is None else percent(one.waited_share),
            "; ".join(beside_texts(one)) or "-",
        ]
        for one in report.latencies[:_MOST_ROWS]
    ]
    output.print_table(columns, rows, indent=_INDENT)
    if rest := report.latencies[_MOST_ROWS:]:
        output.say(f"{len(rest)} more with --json", first=" " * _INDENT)


def _cost_row(cost: Cost, nodes: Sequence[str]) -> list[str]:
    by = cost.by.name if cost.by else "its own CPU limit"
    return [
        name_of(cost.container, nodes),
        time_text(cost.time_ns),
        percent(cost.share_of_time),
        by,
        _HOW[cost.kind],
    ]


def _spent_row(one: TimeSpent, nodes: Sequence[str]) -> list[str]:
    waits = (one.behind_others_ns, one.behind_self_ns, one.throttled_ns, one.idle_ns)
    shares = [_figure(part / one.time_ns) for part in (one.ran_ns, *waits)]
    stolen = "-" if one.stolen_ns is None else _figure(one.stolen_ns / one.time_ns)
    why = " and ".join(takers(one)) or _CAUSES[one.cause]
    return [name_of(one.container, nodes), _figure(_lost(one)), *shares, stolen, why]


def _lost(one: TimeSpent) -> float:
    return cost_ns(one) / one.time_ns


def _figure(share: float) -> str:
    """In per cent; whole from 10 on."""
    return f"{100 * share:.0f}" if share >= 0.0995 else f"{100 * share:.1f}" if share >= 0.0005 else "0"


def _print_victims(report: Report, output: TextOutput) -> None:
    everywhere = _said_of_all(report.victims)
    for number, victim in enumerate(report.victims, 1):
        output.say()
        _print_victim(report, number, victim, everywhere, output)
    output.say()
    for line in _little_and_unknown(everywhere, " for all of them" if len(report.victims) > 1 else ""):
        output.say(line)
    if any(victim.noisy_and_quiet is not None for victim in report.victims):
        output.say(
            "CPI: cycles per instruction; neighbours are noisy in the 5 % of the time in which they miss the LLC most."
        )


def _print_victim(
    report: Report, number: int, victim: Victim, everywhere: Sequence[Explanation], output: TextOutput
) -> None:
    output.say(
        f"{name_of(victim.container, report.nodes)} lost {victim.lost_cycles.value / 1e9:,.3g} billion cycles, "
        f"{share_with_interval(victim.lost_share)}",
        first=f"{number}. ",
        further="   ",
    )
    if (seen := victim.noisy_and_quiet) is not None:
        output.say(
            f"CPI {seen.noisy_cpi:.2f} with noisy neighbours, {seen.quiet_cpi:.2f} in the middle: {seen.ratio:.2f} x",
            first="   ",
        )
    columns = (
        Column("AGGRESSOR", "name"),
        Column("LOST"),
        Column("CI 95 %"),
        Column("OF ITS LOSS", short="SHARE"),
        Column("SURE"),
        Column("WHEN", "text"),
    )
    output.print_table(columns, [_aggressor_row(aggressor, report) for aggressor in victim.aggressors], indent=3)
    for verdict, title in (("likely", "Also likely to matter"), ("possible", "Also possible")):
        for explanation in victim.other_explanations:
            if explanation.verdict == verdict:
                output.say(f"{title}: {explanation.text}", first="   ")
    said = {(one.kind, one.verdict) for one in everywhere}
    own = [one for one in victim.other_explanations if (one.kind, one.verdict) not in said]
    for line in _little_and_unknown(own):
        output.say(line, first="   ")


def _aggressor_row(aggressor: Aggressor, report: Report) -> list[str]:
    share = aggressor.lost_share
    when = [range_text(one.start, one.end, report.start, report.end) for one in aggressor.time_ranges]
    if aggressor.delay_ticks:
        when.append(f"{aggressor.delay_ticks} ticks late")
    return [
        aggressor.container.name,
        percent(share.value),
        f"{share.low * 100:.1f}–{share.high * 100:.1f} %",
        percent(aggressor.share_of_loss),
        _sure(aggressor.confidence),
        ", ".join(when),
    ]


def _sure(confidence: float) -> str:
    return "> 99.9 %" if confidence > _SURE else percent(confidence)


def _said_of_all(victims: Sequence[Victim]) -> list[Explanation]:
    """What was little, or not measured, for each of them."""
    of_each = [{(one.kind, one.verdict) for one in victim.other_explanations} for victim in victims]
    of_all = set.intersection(*of_each)
    return [one for one in victims[0].other_explanations if (one.kind, one.verdict) in of_all]


def _little_and_unknown(explanations: Iterable[Explanation], whom: str = "") -> list[str]:
    lines = []
    for verdict, title in (("no", "Looked at and little"), ("unknown", "Not measured")):
        kinds = [_KINDS.get(one.kind, one.kind) for one in explanations if one.verdict == verdict]
        if kinds:
            lines.append(f"{title}{whom}: {', '.join(kinds)}")
    return lines


def _print_activity(activity: Sequence[Activity], nodes: Sequence[str], output: TextOutput) -> None:
    by_share = sorted(activity, key=lambda one: -one.cpu_share_of_node)
    shown = by_share[:_MOST_ROWS]
    columns = (
        Column("CONTAINER OR UNIT", "name", "CONTAINER"),
        Column("OF NODE"),
        Column("CPI"),
        Column("MPKI"),
        Column("WAITED, WAS THROTTLED", "text"),
    )
    output.print_table(columns, [_activity_row(one, nodes) for one in shown])
    if len(activity) > len(shown):
        most = percent(by_share[len(shown)].cpu_share_of_node)
        output.say(f"{len(activity) - len(shown)} more with --json, of {most} of the node or less")
    terms = []
    if any(one.cpi is not None for one in shown):
        terms.append("CPI: cycles per instruction.")
    if any(one.misses_per_kilo_instruction is not None for one in shown):
        terms.append("MPKI: LLC misses per 1000 instructions.")
    if any(_waiting(one) for one in shown):
        terms.append("Pressure (PSI): share of the time in which some of its tasks waited.")
    if terms:
        output.say(" ".join(terms))


def _activity_row(one: Activity, nodes: Sequence[str]) -> list[str]:
    is_known = any(explanation.value is not None for explanation in one.other_explanations)
    return [
        name_of(one.container, nodes),
        percent(one.cpu_share_of_node),
        "-" if one.cpi is None else f"{one.cpi:.2f}",
        "-" if one.misses_per_kilo_instruction is None else f"{one.misses_per_kilo_instruction:.1f}",
        ", ".join(_waiting(one)) or ("little" if is_known else "-"),
    ]


def _waiting(one: Activity) -> list[str]:
    return [
        f"{_KINDS.get(explanation.kind, explanation.kind)} {percent(explanation.value)}"
        for explanation in one.other_explanations
        if explanation.verdict in ("likely", "possible") and explanation.value is not None and explanation.value <= 1
    ]


def _nodes(nodes: Sequence[str]) -> str:
    if len(nodes) <= 1:
        return f"node {nodes[0]}" if nodes else "no node"
    return f"{len(nodes)} nodes ({', '.join(nodes)})"
