# SPDX-License-Identifier: Apache-2.0
"""A report as text, for a terminal of 80 columns."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tracer.analysis.findings import Activity, Aggressor, Container, Cost, Explanation, Report, TimeSpent, Victim
from tracer.analysis.moments import range_text
from tracer.analysis.waits.wording import culprits
from tracer.analysis.wording import percent, recorded_text, share_with_interval, together
from tracer.cli.printing import printable
from tracer.printable import printable as harmless

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_MOST_ACTIVITY = 10
_MOST_EXPERIMENTS = 3
_BASES = {"ticks": "ticks of a millisecond", "windows": "windows", "cpu-time": "CPU time alone"}
_CACHES = {"ticks": "; caches from ticks", "windows": "; caches from windows", "cpu-time": ""}
_CAUSES = {
    "several": "several",
    "fair-share": "its fair share",
    "own-threads": "its own threads",
    "own-limit": "its own limit",
    "placement": "idle CPUs: placement, wake-up",
    "unknown": "nobody knows",
    "little": "",
}
_SURE = 0.9995


def print_report(report: Report, console: "Console") -> None:
    """The finding in words, then victims, other explanations, and what could have hidden something."""
    for line in report.headline:
        _say(console, line)
    if report.experiments:
        _say(console, "An experiment on the node proves or refutes that:")
        for one in report.experiments[:_MOST_EXPERIMENTS]:
            on_node = f" (on {one.victim.node_name})" if len(report.nodes) > 1 else ""
            # In one line, so that it can be copied.
            console.print(_shown(f"   {one.command}{on_node}", console), soft_wrap=True)
    _say(console)
    basis = f"waits as measured{_CACHES[report.basis]}" if report.time_spent else f"from {_BASES[report.basis]}"
    _say(console, f"{recorded_text(report)}, {_nodes(report.nodes)}, {basis}.")
    if report.time_spent:
        _print_waits(report, console)
    for number, victim in enumerate(report.victims, 1):
        _say(console)
        _print_victim(report, number, victim, console)
    for joint in report.joint:
        _say(console)
        _say(
            console,
            f"{_name(joint.victim, report.nodes)} lost {share_with_interval(joint.lost_share)} to {together(joint)}, "
            f"who cannot be told apart; sure: {_sure(joint.confidence)}",
        )
    with_waits = {one.container.node_name for one in report.time_spent}
    others = [one for one in report.activity if one.container.node_name not in with_waits]
    if not report.victims and not report.joint and others:
        _say(console)
        _print_activity(others, report.nodes, console)
    if report.caveats:
        _say(console)
        _say(console, "What could have hidden something, or bears on this:")
        for caveat in report.caveats:
            _say(console, f"- {caveat.text}", indent=2)


def _print_waits(report: Report, console: "Console") -> None:
    with_waits = {one.container.node_name for one in report.time_spent}
    if report.costs:
        _say(console)
        _say(console, "What cost the most time:")
        rows = [_cost_row(cost, report.nodes) for cost in report.costs[:_MOST_ACTIVITY]]
        _print_table(console, ("CONTAINER OR UNIT", "LOST", "OF ITS TIME", "TO"), rows)
    _say(console)
    _say(console, "Where the time went, in % of it (a task that is ready all the time makes 100):")
    shown = report.time_spent[:_MOST_ACTIVITY]
    titles = ("CONTAINER OR UNIT", "RAN", "OTHERS", "SELF", "LIMIT", "IDLE", "STOLEN", "MOSTLY FOR")
    _print_table(console, titles, [_spent_row(one, report.nodes) for one in shown])
    _say(console, "OTHERS to IDLE: it waited behind others, behind itself, for its limit, for an idle CPU.", indent=3)
    if any(one.container.name == "/" for one in report.time_spent):
        _say(console, "/ is kernel threads and whatever is in no other cgroup.", indent=3)
    if len(report.time_spent) > len(shown):
        _say(console, f"{len(report.time_spent) - len(shown)} more with --json", indent=3)
    for one in (one for one in report.activity if one.container.node_name in with_waits):
        likely = [
            explanation.text
            for explanation in one.other_explanations
            # What was stolen is in the table.
            if explanation.verdict == "likely" and explanation.kind != "steal"
        ]
        if likely:
            _say(console, f"{_name(one.container, report.nodes)}: {'; '.join(likely)}", indent=3)


def _cost_row(cost: Cost, nodes: Sequence[str]) -> list[str]:
    by = cost.by.name if cost.by else ""
    to = {"waiting": f"waiting behind {by}", "throttling": "its own limit", "cache": f"caches, shared with {by}"}
    return [_name(cost.container, nodes), f"{cost.time_ns / 1e9:.3g} s", percent(cost.share_of_time), to[cost.kind]]


def _spent_row(one: TimeSpent, nodes: Sequence[str]) -> list[str]:
    waits = (one.behind_others_ns, one.behind_self_ns, one.throttled_ns, one.idle_ns)
    shares = [_figure(part / one.time_ns) for part in (one.ran_ns, *waits)]
    stolen = "-" if one.stolen_ns is None else _figure(one.stolen_ns / one.time_ns)
    why = " and ".join(culprits(one)) if one.cause == "others" else _CAUSES[one.cause]
    return [_name(one.container, nodes), *shares, stolen, why]


def _figure(share: float) -> str:
    """In per cent; whole from 10 on."""
    return f"{100 * share:.0f}" if share >= 0.0995 else f"{100 * share:.1f}" if share >= 0.0005 else "0"


def _print_victim(report: Report, number: int, victim: Victim, console: "Console") -> None:
    _say(
        console,
        f"{number}. {_name(victim.container, report.nodes)} lost {share_with_interval(victim.lost_share)}, "
        f"{victim.lost_cycles.value / 1e9:,.3g} billion in all",
    )
    if (seen := victim.noisy_and_quiet) is not None:
        _say(
            console,
            f"CPI {seen.noisy_cpi:.2f} while neighbours miss most (5 % of the time), {seen.quiet_cpi:.2f} in the "
            f"middle: {seen.ratio:.2f} x",
            indent=3,
        )
    rows = [_aggressor_row(aggressor, report) for aggressor in victim.aggressors]
    _print_table(console, ("TO", "LOST", "CI 95 %", "OF ITS LOSS", "SURE", "WHEN"), rows)
    _print_explanations(victim.other_explanations, console)


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


def _print_explanations(explanations: Iterable[Explanation], console: "Console") -> None:
    by_verdict: dict[str, list[Explanation]] = {}
    for explanation in explanations:
        by_verdict.setdefault(explanation.verdict, []).append(explanation)
    for verdict, title in (("likely", "Also likely to matter"), ("possible", "Also possible")):
        for explanation in by_verdict.get(verdict, []):
            _say(console, f"{title}: {explanation.text}", indent=3)
    if ruled_out := by_verdict.get("no"):
        _say(console, f"Looked at and little: {', '.join(one.kind for one in ruled_out)}", indent=3)
    if unknown := by_verdict.get("unknown"):
        _say(console, f"Not measured: {', '.join(one.kind for one in unknown)}", indent=3)


def _print_activity(activity: Sequence[Activity], nodes: Sequence[str], console: "Console") -> None:
    shown = activity[:_MOST_ACTIVITY]
    rows = [[*_activity_row(one, nodes)] for one in shown]
    _print_table(console, ("CONTAINER OR UNIT", "OF NODE", "CPI", "MPKI", "WAITED, WAS THROTTLED"), rows)
    if len(activity) > len(shown):
        _say(console, f"{len(activity) - len(shown)} more of the busiest with --json")


def _activity_row(one: Activity, nodes: Sequence[str]) -> list[str]:
    waiting = [
        f"{explanation.kind} {percent(explanation.value)}"
        for explanation in one.other_explanations
        if explanation.verdict in ("likely", "possible") and explanation.value is not None and explanation.value <= 1
    ]
    is_known = any(explanation.value is not None for explanation in one.other_explanations)
    return [
        _name(one.container, nodes),
        percent(one.cpu_share_of_node),
        "-" if one.cpi is None else f"{one.cpi:.2f}",
        "-" if one.misses_per_kilo_instruction is None else f"{one.misses_per_kilo_instruction:.1f}",
        ", ".join(waiting) or ("little" if is_known else "-"),
    ]


def _print_table(console: "Console", titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.padding import Padding
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for position, title in enumerate(titles):
        is_text = position in (0, len(titles) - 1)
        table.add_column(title, overflow="fold", no_wrap=not is_text, justify="left" if is_text else "right")
    for row in rows:
        table.add_row(*(_shown(cell, console) for cell in row))
    console.print(Padding(table, (0, 0, 0, 3), expand=False))


def _say(console: "Console", text: str = "", *, indent: int = 0) -> None:
    """A line, or several where it does not fit; names in it do no harm."""
    from rich.padding import Padding

    console.print(Padding(_shown(text, console), (0, 0, 0, indent), expand=False) if text else "")


def _shown(text: str, console: "Console") -> "Text":
    if console.options.ascii_only:
        text = text.replace("–", "-")
    return printable(harmless(text.encode("utf-8", "backslashreplace")), console)


def _name(container: Container, nodes: Sequence[str]) -> str:
    return container.name if len(nodes) == 1 else f"{container.name} on {container.node_name}"


def _nodes(nodes: Sequence[str]) -> str:
    return f"node {nodes[0]}" if len(nodes) == 1 else f"{len(nodes)} nodes ({', '.join(nodes)})"
