# SPDX-License-Identifier: Apache-2.0
"""What a report says of a service's own latencies."""

from collections.abc import Iterator, Sequence
from typing import Final

from tracer.analysis.findings import Latency, LatencyBeside
from tracer.analysis.latencies.latencies import rise
from tracer.analysis.wording import in_words, name_of
from tracer.printable import printable

_MOST_LINES: Final = 2


def latency_sentences(latencies: Sequence[Latency], nodes: Sequence[str]) -> list[str]:
    """Those that rose most while somebody was in their service's way.

    Of each metric only beside whom it rose most: others are often in its way at the same time.
    """
    worst = [(latency, max(latency.beside, key=rise)) for latency in latencies if any(map(rise, latency.beside))]
    worst.sort(key=lambda one: -rise(one[1]))
    return [_sentence(latency, beside, nodes) for latency, beside in worst[:_MOST_LINES]]


def value_text(value: float, kind: str) -> str:
    """`8.2 ms` of a timer; of others nobody knows the unit."""
    text = f"{value:,.0f}" if abs(value) >= 99.5 else f"{value:.3g}"
    return f"{text} ms" if kind == "timer" else text


def metric_text(name: str) -> str:
    """As somebody called it, harmless on a terminal."""
    return printable(name.encode(errors="backslashreplace"))


def beside_texts(latency: Latency) -> Iterator[str]:
    """For each that was in its way: `behind batch-7/etl: p99 31 ms, else 8.2 ms`."""
    for one in latency.beside:
        name = in_words(one.container.name)
        where = f"behind {name}" if one.how == "waiting" else f"{name} in caches"
        if one.quantile is None or one.during is None or one.otherwise is None:
            yield f"{where}: too few values"
            continue
        during, otherwise = (value_text(value, latency.kind) for value in (one.during, one.otherwise))
        verdict = "" if one.verdict == "rose" else ": no sure rise"
        yield f"{where}: p{one.quantile * 100:.0f} {during}, else {otherwise}{verdict}"


def _sentence(latency: Latency, beside: LatencyBeside, nodes: Sequence[str]) -> str:
    assert beside.quantile is not None
    assert beside.otherwise is not None
    assert beside.during is not None
    assert beside.rise is not None
    unit = " ms" if latency.kind == "timer" else ""
    otherwise, during, low, high = (
        value_text(value, latency.kind).removesuffix(" ms")
        for value in (beside.otherwise, beside.during, beside.rise.low, beside.rise.high)
    )
    name = in_words(beside.container.name)
    which = f"it waited behind {name}" if beside.how == "waiting" else f"{name} missed the LLC much"
    return (
        f"{metric_text(latency.name)} of {in_words(name_of(latency.container, nodes))}: p{beside.quantile * 100:.0f} "
        f"rose from {otherwise} to {during}{unit} (by {low}–{high}{unit}, CI) in the windows in which {which}."
    )
