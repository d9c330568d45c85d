# SPDX-License-Identifier: Apache-2.0
"""What a report says in words."""

from collections.abc import Sequence
from datetime import timedelta

from tracer.analysis.findings import Activity, Bursts, Container, Estimate, Joint, Report, TimeRange, Untold, Victim
from tracer.analysis.moments import Times, range_text, seconds_text, span_text

_MOST_LINES = 3
_MOST_RANGES = 2
# A range that is longer than this share of what was recorded says nothing about when.
_ALL_OF_IT = 0.8
_LIKELY = "likely"
# Less is what two windows may lie apart.
_PAUSE_SECONDS = 2
# With less confidence, a loss is told as probable.
SURE = 0.95
_LOST = {True: "lost", False: "probably lost"}


def percent(share: float) -> str:
    """`18 %`, `2.4 %`: whole from 10 on."""
    return f"{share:.0%}".replace("%", " %") if abs(share) >= 0.0995 else f"{share:.1%}".replace("%", " %")


def time_text(time_ns: float) -> str:
    """`3.83 s`, `17.2 s`, `1,204 s`: three digits or more."""
    seconds = time_ns / 1e9
    return f"{seconds:,.{0 if seconds >= 99.95 else 1 if seconds >= 9.995 else 2}f} s"


def share_with_interval(share: Estimate) -> str:
    """`18 % of its cycles (CI 15–21 %)`."""
    decimals = 0 if share.value >= 0.0995 else 1
    return f"{percent(share.value)} of its cycles (CI {share.low:.{decimals}%}–{share.high:.{decimals}%})".replace(
        "%–", "–"
    ).replace("%)", " %)")


def recorded_text(report: Report) -> str:
    """`2026-11-22 14:00:00 to 15:00:00 UTC (12 min 3 s of it recorded)`."""
    pauses = (report.end - report.start).total_seconds() - report.recorded_seconds
    recorded = f" ({seconds_text(report.recorded_seconds)} of it recorded)" if pauses >= _PAUSE_SECONDS else ""
    return f"{span_text(report.start, report.end)}{recorded}"


def name_of(container: Container, nodes: Sequence[str]) -> str:
    """Its name, with its node's where there are several."""
    return container.name if len(nodes) == 1 else f"{container.name} on {container.node_name}"


def subject(container: Container, nodes: Sequence[str]) -> str:
    """As `name_of`, at the beginning of a sentence."""
    name = name_of(container, nodes)
    return f"The root cgroup{name[1:]}" if container.name == "/" else name


def in_words(name: str) -> str:
    """A container's name within a sentence, where a slash alone looks like nothing."""
    return "the root cgroup" if name == "/" else name


def victim_sentences(victims: Sequence[Victim], nodes: Sequence[str], times: Times) -> list[tuple[float, str]]:
    """Who lost how much to whom, and when; for each pair the CPU time it cost, ns, and a sentence.

    What is only probable counts half: what is sure comes first, unless it is much less.
    """
    return [
        (
            (1.0 if aggressor.confidence >= SURE else 0.5) * aggressor.lost_share.value * victim.cpu_time_ns,
            f"{subject(victim.container, nodes)} {_LOST[aggressor.confidence >= SURE]} "
            f"{time_text(aggressor.lost_share.value * victim.cpu_time_ns)} to "
            f"{in_words(aggressor.container.name)} in caches, {share_with_interval(aggressor.lost_share)}"
            f"{when_text(aggressor.bursts, aggressor.delay_ticks, aggressor.time_ranges, times)}.",
        )
        for victim in victims
        for aggressor in victim.aggressors
    ]


def when_text(bursts: Bursts | None, delay_ticks: int | None, ranges: Sequence[TimeRange], times: Times) -> str:
    """`, in bursts of 8–30 ms, felt a tick later, mostly 14:02–14:09`, as far as it is known and says something."""
    parts = []
    if bursts is not None:
        short, long = bursts.short_ms, bursts.long_ms
        parts.append(
            f"in bursts of {short:.0f}–{long:.0f} ms" if round(short) < round(long) else f"in bursts of {long:.0f} ms"
        )
    if delay_ticks:
        parts.append("felt a tick later" if delay_ticks == 1 else f"felt {delay_ticks} ticks later")
    covered = sum((one.end - one.start for one in ranges), timedelta())
    if ranges and covered < _ALL_OF_IT * times.recorded:
        largest = sorted(ranges, key=lambda one: -one.share)[:_MOST_RANGES]
        texts = " and ".join(
            range_text(one.start, one.end, times.start, times.end) for one in sorted(largest, key=lambda one: one.start)
        )
        parts.append(f"mostly {texts}")
    return "".join(f", {part}" for part in parts)


def nothing_found(containers: int, pairs: int, least_share: float) -> str:
    """The sentence where everything could be looked at."""
    return (
        f"No container lost more than {percent(least_share)} of its cycles to another in caches, as far as can be "
        f"told: {containers} containers and units, {pairs} pairs looked at."
    )


def joint_sentences(joint: Sequence[Joint], nodes: Sequence[str]) -> list[tuple[float, str]]:
    """What was lost to several who cannot be told apart; for each the CPU time it cost, ns, and a sentence."""
    return [
        (
            one.lost_share.value * one.cpu_time_ns,
            f"{subject(one.victim, nodes)} lost {time_text(one.lost_share.value * one.cpu_time_ns)} in caches, "
            f"{share_with_interval(one.lost_share)}, to {together(one)} together: they act at the same times, and "
            "cannot be told apart.",
        )
        for one in joint
    ]


def together(joint: Joint) -> str:
    """`batch-1/etl and batch-2/etl`."""
    *names, last = (in_words(aggressor.name) for aggressor in joint.aggressors)
    return f"{', '.join(names)} and {last}"


def untold_sentence(untold: Sequence[Untold], containers: int, least_share: float) -> str:
    """Of how many it cannot be told, and what would tell it."""
    suspects: dict[str, int] = {}
    for one in untold:
        for suspect in one.suspects:
            suspects[suspect.name] = suspects.get(suspect.name, 0) + 1
    most = map(in_words, sorted(suspects, key=lambda name: -suspects[name])[:_MOST_RANGES])
    return (
        f"Of {len(untold)} of {containers} containers and units it cannot be told whether they lost "
        f"{percent(least_share)} or more of their cycles to others, mostly {' and '.join(most)}: what these do varied "
        "too little, or is not seen from here. To tell it, pin, move or throttle one of them for a minute, and compare."
    )


def pressure_sentences(activity: Sequence[Activity], nodes: Sequence[str]) -> list[str]:
    """Who was throttled or waited, from the kernel's own files, and who used the CPUs meanwhile."""
    lines = []
    for one in activity:
        for explanation in one.other_explanations:
            if explanation.verdict == _LIKELY and explanation.kind != "steal":
                users = _meanwhile(one) if explanation.kind == "cpu-pressure" else ""
                lines.append(f"{subject(one.container, nodes)} {_was(explanation.text)}{users}.")
    return lines[:_MOST_LINES]


def _meanwhile(one: Activity) -> str:
    users = [
        ("itself" if user.container == one.container else in_words(user.container.name), percent(user.share_of_node))
        for user in one.cpu_users
    ]
    told = ", ".join(f"{name} {share}" for name, share in users)
    return f"; of the node's CPU time then: {told}" if users else ""


def _was(text: str) -> str:
    return f"was {text}" if text.startswith("throttled") else f"had {text}" if text[:1].isdigit() else text
