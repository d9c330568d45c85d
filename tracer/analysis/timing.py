# SPDX-License-Identifier: Apache-2.0
"""How long a node's ticks and windows are."""

from datetime import timedelta
from typing import NamedTuple

from tracer.analysis.recording import Recording
from tracer.errors import UsageError

_DEFAULT_TICK_NS = 1_000_000
_DEFAULT_WINDOW_TICKS = 60


_MOST_BINS = 3_600
_SHORTEST_BIN = timedelta(seconds=1)
# With pauses between them, that arrays over all of the time stay small.
_MOST_BINS_OF_SPAN = 1_000_000


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
        for first, last in [manifest.utc_bounds_ns]
        if manifest.host.node_name == node_name and first < end and (last is None or last > start)
    }
    if not found:
        return Timing(_DEFAULT_TICK_NS, _DEFAULT_WINDOW_TICKS, is_known=False)
    if len(found) > 1:
        lengths = ", ".join(f"{tick_ns / 1e6:g} ms x {ticks}" for tick_ns, ticks in sorted(found))
        raise UsageError(
            f"the runs of node {node_name!r} have ticks and windows of different length ({lengths}): "
            "choose one of them by DIR@RUN, or with --since and --until"
        )
    return Timing(*found.pop(), is_known=True)


def bin_length(recording: Recording) -> timedelta:
    """Of bins in which the time is looked at in which something happened: a second, or a 3,600th of what was recorded.

    Raises UsageError for a file that cannot be read.
    """
    whole = recording.span.end - recording.span.start
    return max(_SHORTEST_BIN, recording.recorded_time() / _MOST_BINS, whole / _MOST_BINS_OF_SPAN)
