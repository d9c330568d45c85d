# SPDX-License-Identifier: Apache-2.0
"""What the manifests of a recording say of one node, as far as pictures need it."""

from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from tracer.analysis.recording import Recording

# What nearly every processor has, and the defaults of `tracer run`, where no manifest is there to tell.
_LINE_BYTES: Final = 64
_TICK_NS: Final = 1_000_000
_WINDOW_TICKS: Final = 60


@dataclass(frozen=True)
class NodeFacts:
    """`ticks_since` has (UTC ns, length of a tick from then on), by time; `window_ns` is the longest window.

    `line_bytes`: size of a line of the last-level cache. `why_not_counted`: why LLC misses were not, if anybody knows.
    """

    ticks_since: tuple[tuple[int, int], ...]
    window_ns: int
    line_bytes: int
    why_not_counted: str | None

    @property
    def tick_ns(self) -> int:
        """The length of a tick; of several the longest."""
        return max(tick_ns for _since, tick_ns in self.ticks_since)

    def seconds_of(self, ticks: pl.Expr, time: pl.Expr) -> pl.Expr:
        """How long `ticks` ticks at `time` (a datetime in ns) are."""
        length = pl.lit(self.ticks_since[0][1])
        for since, tick_ns in self.ticks_since[1:]:
            length = pl.when(time.to_physical() >= since).then(pl.lit(tick_ns)).otherwise(length)
        return ticks * (length / 1e9)


def node_facts(recording: Recording, node: str) -> NodeFacts:
    """By the manifests of the runs on `node`; by the defaults of `tracer run` where these are gone."""
    manifests = [manifest for manifest in recording.manifests if manifest.host.node_name == node]
    reasons = (
        event.reason_missing
        for manifest in manifests
        for event in manifest.events
        if event.column == "llc_misses" and not event.counted
    )
    return NodeFacts(
        tuple((manifest.start.utc_ns, manifest.tick_ns) for manifest in manifests) or ((0, _TICK_NS),),
        max((manifest.tick_ns * manifest.window_ticks for manifest in manifests), default=_TICK_NS * _WINDOW_TICKS),
        max((line for manifest in manifests for line in _line_sizes(manifest.topology)), default=_LINE_BYTES),
        next((reason for reason in reasons if reason), None),
    )


def _line_sizes(topology: Any) -> list[int]:
    """Sizes of a line of the last-level caches; none where the topology is not what this version writes."""
    domains = topology.get("llc_domains") if isinstance(topology, dict) else None
    sizes = [domain.get("line_bytes") for domain in domains or [] if isinstance(domain, dict)]
    return [size for size in sizes if isinstance(size, int)]
