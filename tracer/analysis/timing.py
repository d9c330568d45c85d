# SPDX-License-Identifier: Apache-2.0
"""How long a node's ticks and windows are."""

from typing import NamedTuple

from tracer.analysis.recording import Recording
from tracer.errors import UsageError

_DEFAULT_TICK_NS = 1_000_000
_DEFAULT_WINDOW_TICKS = 60


class Timing(NamedTuple):
    """`is_known`: whether a manifest tells; else they are what `tracer run` has by default."""

    tick_ns: int
    window_ticks: int
    is_known: bool


def timing_of(recording: Recording, node_name: str) -> Timing:
    """Raises UsageError where runs of the node differ in it: their rows cannot be compared."""
    start, end = (int(moment.timestamp() * 1e9) for moment in recording.span)
    found = {
        (manifest.tick_ns, manifest.window_ticks)
        for manifest in recording.manifests
        if manifest.host.node_name == node_name
        and manifest.start.utc_ns < end
        and (manifest.end is None or manifest.end.utc_ns > start)
    }
    if not found:
        return Timing(_DEFAULT_TICK_NS, _DEFAULT_WINDOW_TICKS, is_known=False)
    if len(found) > 1:
        lengths = ", ".join(f"{tick_ns / 1e6:g} ms x {ticks}" for tick_ns, ticks in sorted(found))
        raise UsageError(
            f"the runs of node {node_name!r} have ticks and windows of different length ({lengths}): "
            "choose one of them with --since and --until"
        )
    return Timing(*found.pop(), is_known=True)
