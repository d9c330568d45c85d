# SPDX-License-Identifier: Apache-2.0
"""What the manifests of a recording say of one node, as far as pictures need it."""

from dataclasses import dataclass

import polars as pl

from tracer.analysis.cpu_map import cpu_map
from tracer.analysis.recording import Recording
from tracer.analysis.timing import timing_of


@dataclass(frozen=True)
class NodeFacts:
    """Lengths of a tick and of a window, size of a line of the last-level cache.

    `why_not_counted`: why LLC misses were not, if a manifest says so.
    """

    tick_ns: int
    window_ns: int
    line_bytes: int
    why_not_counted: str | None

    def seconds(self, ticks: pl.Expr) -> pl.Expr:
        """How long so many ticks are."""
        return ticks * (self.tick_ns / 1e9)


def node_facts(recording: Recording, node: str) -> NodeFacts:
    """Raises UsageError where runs of the node had ticks or windows of different length."""
    timing = timing_of(recording, node)
    reasons = (
        event.reason_missing
        for manifest in recording.manifests
        if manifest.host.node_name == node
        for event in manifest.events
        if event.column == "llc_misses" and not event.counted
    )
    return NodeFacts(
        timing.tick_ns,
        timing.tick_ns * timing.window_ticks,
        cpu_map(recording.manifests, node, 1).line_bytes,
        next((reason for reason in reasons if reason), None),
    )
