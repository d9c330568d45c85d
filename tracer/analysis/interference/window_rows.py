# SPDX-License-Identifier: Apache-2.0
"""Rows of a comparison from the `windows` table: one a window in which the victim ran.

A row of `windows` does not say on which CPUs its cgroup ran, but what all its neighbours missed on the same LLC in
just the ticks in which it ran: `neighbour_llc_misses`. How much of that each suspect did is told from the suspects' own
rows, after it was found whose misses it follows at all: who runs on another LLC is no neighbour.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import polars as pl

from tracer.analysis.interference.regression import Floats, Ints, solve, without_means
from tracer.analysis.interference.rows import Segment, VictimRows, lagged_products, work_hinges
from tracer.analysis.interference.timeline import Part, Timeline
from tracer.analysis.recording import Recording
from tracer.analysis.roster import Roster

# Windows times containers that are held in memory at once; and the windows whose arrays fit a CPU's caches.
_READ_CELLS = 3_000_000
_SEGMENT_STEPS = 10000
_STRETCH_NS = 3 * 10**9
_TRIFLE = 0.02
_WORK_QUANTILES = (0.0, 0.33, 0.66, 0.9)
# Of a suspect's misses in the ticks in which the victim ran: with less, it is on another LLC.
_LEAST_SHARED = 0.5

_COLUMNS = ("cycles", "instructions", "llc_misses", "active_ticks", "neighbour_llc_misses")


class WindowRows:
    """The `Source` of one node's `windows`. `llcs` is how many last-level caches it has, None if nobody told;
    `beside` the share of each CPU's time, in the mean, that each suspect may have been on its sibling."""

    lags = 0
    is_ratio = True
    has_channels = False
    memories = 0
    own_controls = len(_WORK_QUANTILES) + 2
    # Both as `bench/interference.py` finds them in simulated runs, whose truth is known.
    model_error = 0.25
    least_share = 0.04
    # Less than half of the lines that it puts out are the victim's, and missed.
    most_of_suspect_miss = 100.0
    sibling_control: int | None = None
    cold_controls = slice(0, 0)

    def __init__(
        self,
        recording: Recording,
        roster: Roster,
        node_name: str,
        *,
        victims: list[int],
        suspects: list[int],
        tick_ns: int,
        window_ticks: int,
        llcs: int | None,
        beside: Sequence[float],
    ) -> None:
        self.victims = victims
        self.suspects = suspects
        self.window_ticks = window_ticks
        self.step_ns = tick_ns * window_ticks
        self.stretch_steps = max(1, _STRETCH_NS // self.step_ns)
        self.llcs = llcs
        self.beside = np.array(beside)
        self._recording = recording
        # With one node there is nothing to tell apart, at a tenth of the time that reading takes.
        self._of_node = [pl.col("node_name") == node_name] if len(recording.nodes) > 1 else []
        self._chosen = sorted({*victims, *suspects})
        self._members = roster.members(node_name).filter(pl.col("member").is_in(self._chosen))
        self.timeline = Timeline(recording.recorded(node_name), self.step_ns)
        self.steps = self.timeline.steps
        self._knots: dict[int, Floats] = {}
        self._all: list[Segment] = []

    def segments(self) -> Iterator[Segment]:
        stretches = max(1, _READ_CELLS // len(self._chosen) // self.stretch_steps)
        parts = list(self.timeline.parts(stretches * self.stretch_steps))
        if len(parts) == 1:
            self._all = self._all or list(self._segments_of(parts[0]))
            yield from self._all
            return
        for part in parts:
            yield from self._segments_of(part)

    def _segments_of(self, part: Part) -> Iterator[Segment]:
        sums = self._read(part)
        longest = max(1, _SEGMENT_STEPS // self.stretch_steps) * self.stretch_steps
        for first in range(0, part.steps, longest):
            yield self._segment(
                part.first_step + first, {name: values[:, first : first + longest] for name, values in sums.items()}
            )

    def _read(self, part: Part) -> dict[str, Floats]:
        """[chosen, steps]: each column's sums, 0 where there is no row."""
        since_ns = (pl.col("window_start") - part.start).dt.total_nanoseconds()
        ids = self._members["cgroup_id"].to_list()
        rows = self._recording.collect(
            self._recording.scan("windows", part.span)
            # Windows that are longer, as the tracer could not keep up, compare with no other.
            .filter(pl.col("cgroup_id").is_in(ids), pl.col("ticks") <= self.window_ticks, *self._of_node)
            .select(
                ((since_ns + self.step_ns // 2) // self.step_ns).cast(pl.Int64).alias("step"),
                "cgroup_id",
                *(pl.col(name).cast(pl.Float64).fill_null(float("nan")) for name in _COLUMNS),
            )
        )
        rows = rows.join(self._members, on="cgroup_id").filter(pl.col("step").is_between(0, part.steps - 1))
        place = np.searchsorted(self._chosen, rows["member"].to_numpy()) * part.steps + rows["step"].to_numpy()
        shape = (len(self._chosen), part.steps)
        return {
            # Several rows of one window are those of its cgroups, or came late: they add up.
            name: np.bincount(place, rows[name].to_numpy(), shape[0] * shape[1]).reshape(shape).astype(np.float64)
            for name in _COLUMNS
        }

    def _segment(self, first_step: int, sums: dict[str, Floats]) -> Segment:
        # [T, A]
        misses = np.ascontiguousarray(sums["llc_misses"][[self._chosen.index(one) for one in self.suspects]].T)
        load = _load(sums["instructions"])
        return Segment(
            first_step=first_step,
            steps=len(misses),
            # They are asked for several times.
            rows_of=cache(lambda victim: self._rows_of(victim, first_step, sums, misses, load)),
            suspect_misses=np.nan_to_num(misses.T),
        )

    def _rows_of(self, victim: int, first: int, sums: dict[str, Floats], misses: Floats, load: Floats) -> VictimRows:
        place = self._chosen.index(victim)
        step = np.flatnonzero(sums["active_ticks"][place] > 0)
        cycles, instructions, own, active, neighbours = (sums[name][place][step] for name in _COLUMNS)
        is_other = np.array([suspect != victim for suspect in self.suspects], np.bool_)
        is_counted = np.isfinite(cycles) & (instructions > 0)
        # [N, A]: what each suspect missed while the victim ran, were its misses spread over the window.
        met = misses[step]
        met *= np.minimum(active / self.window_ticks, 1.0)[:, None]
        met[:, ~is_other] = 0.0
        is_known = is_counted & np.isfinite(neighbours) & np.isfinite(met.sum(axis=1))
        median = np.median(instructions[is_counted]) if is_counted.any() else 0.0
        is_usable = is_known & (np.nan_to_num(instructions) > _TRIFLE * median)
        instructions = np.where(is_counted, instructions, 0.0)
        met[~is_known] = 0.0
        neighbours = np.nan_to_num(neighbours)

        shared = self._shared(met[is_usable], neighbours[is_usable], (step + first)[is_usable])
        met *= shared
        of_suspects = met.sum(axis=1)
        # What nobody's rows explain is taken to be as much in each tick.
        unexplained = max(0.0, (neighbours - of_suspects)[is_usable].sum() / max(active[is_usable].sum(), 1.0))
        in_all = of_suspects + unexplained * active
        # The ticks in which the victim ran may be those of a burst: then all of that is shared out.
        measured = np.divide(neighbours, in_all, out=np.zeros(len(step)), where=in_all > 0)
        per_tick = met * (measured / active)[:, None]
        knots = self._work_knots(victim, instructions[is_usable])
        return VictimRows(
            step=step + first,
            cycles=np.where(is_counted, cycles, 0.0),
            instructions=instructions,
            misses=np.nan_to_num(own),
            is_known=is_known,
            is_usable=is_usable,
            controls=np.column_stack([work_hinges(instructions, knots), _others_load(load, place)[step]]),
            # An effect some ticks late is in the same window.
            traffic=lambda _lags: per_tick,
            responses=lambda values, lags: lagged_products(values, per_tick, lags),
            rest=unexplained * measured,
            sibling=None,
            has_moved=None,
        )

    def _shared(self, met: Floats, neighbours: Floats, step: Ints) -> Floats:
        """[A]: how far what the neighbours missed follows each suspect's misses; 0 for one on another LLC."""
        if self.llcs == 1 or not len(step):
            return np.ones(met.shape[1])
        columns = without_means(np.column_stack([met, neighbours]), np.ones(len(step)), step // self.stretch_steps)
        found: Floats = solve(columns.T @ columns)
        shared: Floats = np.where(found < _LEAST_SHARED, 0.0, np.minimum(found, 1.0))
        return shared

    def _work_knots(self, victim: int, instructions: Floats) -> Floats:
        if victim not in self._knots and len(instructions):
            self._knots[victim] = np.quantile(instructions, _WORK_QUANTILES)
        return self._knots.get(victim, np.zeros(len(_WORK_QUANTILES)))


def _load(instructions: Floats) -> Floats:
    """[chosen, T]: how much work each had, compared with its own mean."""
    counted = np.nan_to_num(instructions)
    found: Floats = counted / np.maximum(counted.mean(axis=1, keepdims=True), 1.0)
    return found


def _others_load(load: Floats, place: int) -> Floats:
    """[T, 2]: how much work all but one had, and how much it was beyond the mean.

    Services that get their requests together have much to do at the same time, without harming each other.
    """
    others = (load.sum(axis=0) - load[place]) / max(len(load) - 1, 1)
    return np.column_stack([others, np.maximum(others - 1.0, 0.0)])
