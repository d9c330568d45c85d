# SPDX-License-Identifier: Apache-2.0
"""What a report says of a service's own latencies."""

from collections.abc import Iterator, Sequence
from typing import Final

from tracer.analysis.findings import Latency, LatencyBehind
from tracer.analysis.latencies.latencies import rise
from tracer.analysis.wording import in_words, name_of
from tracer.printable import printable

_MOST_LINES: Final = 2


def latency_sentences(latencies: Sequence[Latency], nodes: Sequence[str]) -> list[str]:
    """Those that rose most while their service waited."""
    rose = [(rise(behind), latency, behind) for latency in latencies for behind in latency.behind if rise(behind)]
    worst = sorted(rose, key=lambda one: -one[0])
    return [_sentence(latency, behind, nodes) for _rise, latency, behind in worst[:_MOST_LINES]]


def value_text(value: float, kind: str) -> str:
    """`8.2 ms` of a timer; of others nobody knows the unit."""
    text = f"{value:,.0f}" if abs(value) >= 99.5 else f"{value:.3g}"
    return f"{text} ms" if kind == "timer" else text


def metric_text(name: str) -> str:
    """As somebody called it, harmless on a terminal."""
    return printable(name.encode(errors="backslashreplace"))


def behind_texts(latency: Latency) -> Iterator[str]:
    """For each that it waited behind: `behind batch-7/etl: p99 31 ms, else 8.2 ms`."""
    for one in latency.behind:
        name = in_words(one.container.name)
        if one.quantile is None or one.waiting is None or one.quiet is None:
            yield f"behind {name}: too few values"
            continue
        waiting, quiet = (value_text(value, latency.kind) for value in (one.waiting, one.quiet))
        verdict = "" if one.verdict == "rose" else ": no sure rise"
        yield f"behind {name}: p{one.quantile * 100:.0f} {waiting}, else {quiet}{verdict}"


def _sentence(latency: Latency, behind: LatencyBehind, nodes: Sequence[str]) -> str:
    assert behind.quantile is not None
    assert behind.quiet is not None
    assert behind.waiting is not None
    assert behind.rise is not None
    unit = " ms" if latency.kind == "timer" else ""
    quiet, waiting, low, high = (
        value_text(value, latency.kind).removesuffix(" ms")
        for value in (behind.quiet, behind.waiting, behind.rise.low, behind.rise.high)
    )
    return (
        f"{metric_text(latency.name)} of {in_words(name_of(latency.container, nodes))}: p{behind.quantile * 100:.0f} "
        f"rose from {quiet} to {waiting}{unit} (by {low}–{high}{unit}, CI) in the windows in which it waited behind "
        f"{in_words(behind.container.name)}."
    )
