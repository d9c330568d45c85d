# SPDX-License-Identifier: Apache-2.0
"""Behind whom cgroups waited for a CPU, as events of counters: one for each pair of note."""

from typing import Final

import polars as pl

from tracer.analysis.perfetto.events import IDLE_CGROUP_ID
from tracer.analysis.recording import Recording

_USUAL_TICK_NS: Final = 1_000_000
# Of what a cgroup waited: who held the CPU for less has no track of its own, nor have more than so many.
_LEAST_SHARE: Final = 0.02
_MOST_HOLDERS: Final = 8
_WAITED: Final = ["node_name", "cgroup_id"]
_PAIR: Final = [*_WAITED, "holder_cgroup_id"]
_EVENTS: Final = pl.Schema(
    {
        "node_name": pl.String,
        "cgroup_id": pl.Int64,
        "holder_cgroup_id": pl.Int64,
        "time_ns": pl.Int64,
        "value": pl.Float64,
    }
)


class HolderEvents:
    """Turns stretches of `waits`, in the order of time, into events: so many tasks wait behind the holder from then on.

    Of those that were asked for; other containers only as holders. `runs` has by `node_name` and `start_ns` the
    `tick_ns` of a run.
    """

    def __init__(self, recording: Recording, runs: pl.DataFrame) -> None:
        self._runs = runs.select("node_name", "start_ns", "tick_ns")
        # Ends that come after their stretch.
        self._later = _EVENTS.to_frame()
        self._pairs = _EVENTS.to_frame().select(_PAIR)
        if recording.has("waits"):
            sums = recording.collect(_waits(recording).group_by(_PAIR).agg(pl.sum("wait_time_ns")))
            of_all = pl.col("wait_time_ns") / pl.sum("wait_time_ns").over(_WAITED)
            rank = pl.col("wait_time_ns").rank("ordinal", descending=True).over(_WAITED)
            self._pairs = sums.filter(of_all >= _LEAST_SHARE, rank <= _MOST_HOLDERS).select(_PAIR)

    def take(self, part: Recording, before_ns: int) -> pl.DataFrame:
        """Events before this time, of a stretch that ends then."""
        if self._pairs.is_empty():
            return _EVENTS.to_frame()
        lengths = part.scan("windows").group_by("node_name", "window_start").agg(pl.max("ticks"))
        waits = _waits(part).join(self._pairs.lazy(), on=_PAIR, how="semi")
        waits = waits.join(lengths, on=["node_name", "window_start"])
        sums = waits.group_by(*_PAIR, "window_start").agg(pl.first("ticks"), pl.sum("wait_time_ns"))
        rows = (
            part.collect(sums.with_columns(time_ns=pl.col("window_start").dt.epoch("ns")))
            .sort("time_ns")
            .join_asof(self._runs, left_on="time_ns", right_on="start_ns", by="node_name", check_sortedness=False)
            .with_columns(length_ns=pl.col("ticks") * pl.col("tick_ns").fill_null(_USUAL_TICK_NS))
            .filter(pl.col("length_ns") > 0)
        )
        begins = rows.with_columns(value=pl.col("wait_time_ns") / pl.col("length_ns"))
        ends = rows.with_columns(time_ns=pl.col("time_ns") + pl.col("length_ns"), value=0.0)
        columns = _EVENTS.names()
        ends = pl.concat([self._later, ends.select(columns)])
        # Who waits on is not told to have stopped.
        stops = ends.join(begins, on=[*_PAIR, "time_ns"], how="anti")
        self._later = stops.filter(pl.col("time_ns") >= before_ns)
        return pl.concat([begins.select(columns), stops.filter(pl.col("time_ns") < before_ns)])

    def finish(self) -> pl.DataFrame:
        """The events after the last stretch."""
        return self._later


def _waits(recording: Recording) -> pl.LazyFrame:
    holder = pl.col("holder_cgroup_id")
    is_other = holder.is_not_null() & (holder != IDLE_CGROUP_ID) & (holder != pl.col("cgroup_id"))
    return recording.scan("waits").filter(recording.is_wanted(), is_other)
