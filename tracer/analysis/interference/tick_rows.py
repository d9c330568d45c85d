# SPDX-License-Identifier: Apache-2.0
"""Rows of a comparison from the `ticks` table: one a tick and CPU on which the victim ran."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from tracer.analysis.cpu_map import CpuMap, cpu_map
from tracer.analysis.interference.memories import MEMORY_TICKS, follows, remembered
from tracer.analysis.interference.regression import Bools, Floats, Ints
from tracer.analysis.interference.rows import Channels, Segment, VictimRows, lagged_products, work_hinges
from tracer.analysis.interference.timeline import Part, Timeline
from tracer.analysis.recording import Recording, Span
from tracer.analysis.roster import Roster

Singles = npt.NDArray[np.float32]

# What is held in memory at once.
_SEGMENT_ROWS = 1_500_000
_STRETCH_NS = 10**9
# An effect is looked for up to so many ticks late.
_LAGS = 10
# Of the median row's instructions: what is less says more of its pause than of its work.
_TRIFLE = 0.02
# Of a tick: who ran longer would perhaps have run longer still.
_WHOLE_TICK = 0.98
# After so many ticks most of a container's lines are taken to be gone.
_COLD_AFTER_TICKS = 30.0
_LONGEST_PAUSE_TICKS = 1_000
# Of a short segment.
_MOST_FORGOTTEN = 0.05
_QUEUE_QUANTILE = 0.8
_WORK_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95)

_COLUMNS = ("cpu_time_ns", "cycles", "instructions", "llc_misses")


class TickRows:
    """The `Source` of one node's `ticks`."""

    is_ratio = False
    has_channels = True
    memories = len(MEMORY_TICKS)
    # Its work, its pauses and its threads beside each other. Busy CPUs are not: that is whoever does the harm.
    own_controls = 9
    # Both as `bench/interference.py` finds them in simulated runs, whose truth is known.
    model_error = 0.25
    least_share = 0.02
    # Each line that it puts out is missed once.
    most_of_suspect_miss = 250.0
    lags = _LAGS
    cold_controls = slice(len(_WORK_QUANTILES) + 1, len(_WORK_QUANTILES) + 3)

    def __init__(
        self,
        recording: Recording,
        roster: Roster,
        node_name: str,
        *,
        victims: list[int],
        suspects: list[int],
        tick_ns: int,
        rows: int,
    ) -> None:
        self.victims = victims
        self.suspects = suspects
        self.step_ns = tick_ns
        self.stretch_steps = max(1, _STRETCH_NS // tick_ns)
        self._recording = recording
        self._node_name = node_name
        self._members = roster.members(node_name)
        self.timeline = Timeline(recording.recorded(node_name), tick_ns)
        self.steps = self.timeline.steps
        cpus = recording.collect(self._scan(recording.span).select(pl.max("cpu"))).item()
        self._cpus: CpuMap = cpu_map(recording.manifests, node_name, (cpus or 0) + 1)
        self.sibling_control = self.own_controls if (self._cpus.sibling >= 0).any() else None
        self.segment_count = max(1, -(-rows // _SEGMENT_ROWS))
        # Ticks say who was on which sibling.
        self.beside = np.zeros(len(suspects))
        self._knots: dict[int, Floats] = {}
        self._queue_knots: dict[int, float] = {}
        # By suspect, how many of its misses follow what others did; told from the first segment.
        self.follows: Bools | None = None
        self._only: Segment | None = None

    def segments(self) -> Iterator[Segment]:
        parts = list(self.timeline.parts(_part_steps(self)))
        if len(parts) == 1:
            self._only = self._only or self._segment(parts[0])
            yield self._only
            return
        yield from map(self._segment, parts)

    def _scan(self, span: Span) -> pl.LazyFrame:
        rows = self._recording.scan("ticks", span)
        return rows.filter((pl.col("node_name") == self._node_name) & (pl.col("cgroup_id") != 0))

    def _segment(self, part: Part) -> Segment:
        since_ns = (pl.col("tick_start") - part.start).dt.total_nanoseconds()
        rows = self._recording.collect(
            self._scan(part.span)
            .select(
                # Its start is a whole number of ticks after the first one's, but for what the clock was rounded by.
                ((since_ns + self.step_ns // 2) // self.step_ns).cast(pl.Int64).alias("step"),
                pl.col("cpu").cast(pl.Int64),
                "cgroup_id",
                *(pl.col(name).cast(pl.Float64).fill_null(float("nan")) for name in _COLUMNS),
            )
            .join(self._members.lazy(), on="cgroup_id")
            .drop("cgroup_id")
            .filter(pl.col("step").is_between(0, part.steps - 1) & (pl.col("cpu_time_ns") > 0))
        ).sort("step", "cpu")
        return _Ticks(rows, part.steps, self._cpus).segment(self, part.first_step)

    def work_knots(self, victim: int, instructions: Floats) -> Floats:
        """[5]: where the line of its CPI by its work may bend: the same in all segments."""
        if victim not in self._knots and len(instructions):
            self._knots[victim] = np.quantile(instructions, _WORK_QUANTILES)
        return self._knots.get(victim, np.zeros(len(_WORK_QUANTILES)))

    def queue_knot(self, victim: int, lines: Floats) -> float:
        """Where waiting for memory may begin to grow faster: the same in all segments."""
        if victim not in self._queue_knots and len(lines):
            self._queue_knots[victim] = float(np.quantile(lines, _QUEUE_QUANTILE))
        return self._queue_knots.get(victim, 0.0)


def _part_steps(source: TickRows) -> int:
    """How many ticks are read at once: whole stretches."""
    length = -(-source.steps // source.segment_count)
    return -(-length // source.stretch_steps) * source.stretch_steps


class _Ticks:
    """All rows of a segment, and sums of them by CPU or by last-level cache and tick."""

    def __init__(self, rows: pl.DataFrame, steps: int, cpus: CpuMap) -> None:
        self._steps = steps
        self._cpus = cpus
        self._member = rows["member"].to_numpy().astype(np.int64)
        self._step = rows["step"].to_numpy()
        # A CPU that nobody told of is taken for the last known.
        self._cpu = np.minimum(rows["cpu"].to_numpy(), len(cpus.domain) - 1)
        self._domain = cpus.domain[self._cpu]
        self._time = rows["cpu_time_ns"].to_numpy()
        self._cycles, self._instructions, self._misses = (rows[name].to_numpy() for name in _COLUMNS[1:])
        self._by_member = np.argsort(self._member, kind="stable")
        self._bounds = np.searchsorted(self._member[self._by_member], np.arange(self._member.max(initial=0) + 2))
        # What was not counted in between is felt later all the same: taken to be as much as usual.
        self._misses_felt = _filled(self._member, self._instructions, self._misses)
        everything = slice(None)
        self._busy = self._time_by_cpu(everything)
        self._missed = self._misses_by_domain(everything)
        self._missed_felt = self._sums(self._domain, everything, self._misses_felt, cpus.domains)
        self._is_unknown = np.zeros((cpus.domains, steps), np.bool_)
        uncounted = np.isnan(self._misses)
        self._is_unknown[self._domain[uncounted], self._step[uncounted]] = True

    def segment(self, source: TickRows, first: int) -> Segment:
        suspects = [self._of(member) for member in source.suspects]
        misses = np.zeros((self._cpus.domains, self._steps, len(suspects)))
        felt = np.zeros_like(misses)
        for number, rows in enumerate(suspects):
            misses[:, :, number] = self._misses_by_domain(rows)
            felt[:, :, number] = self._sums(self._domain[rows], rows, self._misses_felt[rows], self._cpus.domains)
        instructions = np.zeros_like(misses)
        for number, rows in enumerate(suspects):
            instructions[:, :, number] = self._sums(
                self._domain[rows], rows, np.nan_to_num(self._instructions[rows]), self._cpus.domains
            )
        # Whole ns of a tick or less, which such numbers hold exactly.
        busy = (
            [] if source.sibling_control is None else [self._time_by_cpu(rows).astype(np.float32) for rows in suspects]
        )
        exposures = _Exposures(felt, self._missed_felt, instructions, self._cpus, source)
        return Segment(
            first_step=first,
            steps=self._steps,
            # Made anew for the few victims of which they are asked for again: all of them take much memory.
            rows_of=lambda victim: self._rows_of(source, victim, first, misses, busy, exposures),
            suspect_misses=misses.sum(axis=0).T,
        )

    def _of(self, member: int) -> Ints:
        if member + 1 >= len(self._bounds):
            return np.zeros(0, np.int64)
        return self._by_member[self._bounds[member] : self._bounds[member + 1]]

    def _time_by_cpu(self, rows: "Ints | slice") -> Floats:
        """[CPU, T], ticks."""
        return self._sums(self._cpu[rows], rows, self._time[rows], len(self._cpus.domain))

    def _misses_by_domain(self, rows: "Ints | slice") -> Floats:
        """[D, T]"""
        return self._sums(self._domain[rows], rows, np.nan_to_num(self._misses[rows]), self._cpus.domains)

    def _sums(self, place: Ints, rows: "Ints | slice", values: Floats, places: int) -> Floats:
        flat = np.bincount(place * self._steps + self._step[rows], values, places * self._steps)
        return flat.reshape(places, self._steps).astype(np.float64)

    def _rows_of(
        self,
        source: TickRows,
        victim: int,
        first: int,
        misses: Floats,
        busy: list[Singles],
        exposures: "_Exposures",
    ) -> VictimRows:
        rows = self._of(victim)
        step, domain = self._step[rows], self._domain[rows]
        cycles, instructions = self._cycles[rows], self._instructions[rows]
        is_counted = np.isfinite(cycles) & (instructions > 0)
        is_known = is_counted & ~self._is_unknown[domain, step]
        median = np.median(instructions[is_counted]) if is_counted.any() else 0.0
        # Before, a cache may remember what this segment does not have.
        remembers = step >= min(MEMORY_TICKS[-1], _MOST_FORGOTTEN * self._steps)
        is_usable = is_known & remembers & (np.nan_to_num(instructions) > _TRIFLE * median)
        instructions = np.where(is_counted, instructions, 0.0)
        is_other = np.array([suspect != victim for suspect in source.suspects], np.float64)

        def traffic(lags: Ints) -> Floats:
            found = np.empty((len(step), len(lags)))
            for lag in np.unique(lags):
                at_lag: Floats = misses[domain, (step - lag) % self._steps] * is_other
                if (lags == lag).all():
                    return at_lag
                found[:, lags == lag] = at_lag[:, lags == lag]
            return found

        def responses(values: Floats, lags: Ints) -> Floats:
            by_tick = np.bincount(domain * self._steps + step, values, self._cpus.domains * self._steps).astype(
                np.float64
            )
            found = np.zeros((len(lags), len(is_other)))
            for of_domain, missed in zip(by_tick.reshape(self._cpus.domains, self._steps), misses, strict=True):
                found += lagged_products(of_domain, missed, lags) * is_other
            return found

        others = (self._missed - self._misses_by_domain(rows))[domain, step]
        of_suspects = traffic(np.zeros(len(is_other), np.int64)).sum(axis=1)
        own = self._misses_by_domain(rows)
        queue = exposures.queue(domain, step, own, is_other)
        return VictimRows(
            step=step + first,
            cycles=np.where(is_counted, cycles, 0.0),
            instructions=instructions,
            misses=np.nan_to_num(self._misses[rows]),
            is_known=is_known,
            is_usable=is_usable,
            controls=self._controls(source, victim, rows, instructions, is_usable),
            traffic=traffic,
            responses=responses,
            rest=np.maximum(others - of_suspects, 0.0),
            sibling=self._on_sibling(source, victim, rows, busy) if busy else None,
            has_moved=self._has_moved(rows),
            channels=Channels(
                exposure=exposures.of(domain, step, own, is_other),
                queue=queue,
                queue_knot=source.queue_knot(victim, queue.sum(axis=1)[is_usable]),
            ),
        )

    def _has_moved(self, rows: Ints) -> Bools:
        step = self._step[rows]
        is_first = np.diff(step, prepend=-1) > 0
        times = step[is_first]
        before = np.concatenate([times[:1], times])[np.cumsum(is_first) - 1]
        found: Bools = self._time_by_cpu(rows)[self._cpu[rows], before] == 0
        return found

    def _on_sibling(self, source: TickRows, victim: int, rows: Ints, busy: list[Singles]) -> Floats:
        """[N, A]: the share of the tick in which each suspect ran on the sibling of the row's CPU."""
        step, sibling = self._step[rows], self._cpus.sibling[self._cpu[rows]]
        found = np.zeros((len(rows), len(source.suspects)))
        for number, suspect in enumerate(source.suspects):
            if suspect != victim:
                ran = busy[number][sibling, step].astype(np.float64)
                found[:, number] = np.where(sibling >= 0, ran, 0.0) / source.step_ns
        return found

    def _controls(self, source: TickRows, victim: int, rows: Ints, instructions: Floats, is_usable: Bools) -> Floats:
        """[N, 11]: 5 of its own work, whether the tick was full, 2 of its pause, its own threads on the SMT sibling,
        others there, busy CPUs on the LLC.
        """
        step, cpu, domain = self._step[rows], self._cpu[rows], self._domain[rows]
        is_whole = self._time[rows] >= _WHOLE_TICK * source.step_ns
        knots = source.work_knots(victim, instructions[is_usable & ~is_whole])
        work = np.where(is_whole[:, None], 0.0, work_hinges(instructions, knots))
        pause = _pauses(step)
        per_instruction = np.divide(1.0, instructions, out=np.zeros(len(rows)), where=is_usable)
        own_busy = self._time_by_cpu(rows) / source.step_ns
        others_busy = self._busy / source.step_ns - own_busy
        sibling = self._cpus.sibling[cpu]
        busy_by_domain = np.stack(
            [others_busy[self._cpus.domain == number].sum(axis=0) for number in range(self._cpus.domains)]
        )
        return np.column_stack(
            [
                work,
                is_whole,
                (pause > 0) * per_instruction,
                (1 - np.exp(-pause / _COLD_AFTER_TICKS)) * per_instruction,
                np.where(sibling >= 0, own_busy[sibling, step], 0.0),
                np.where(sibling >= 0, others_busy[sibling, step], 0.0),
                busy_by_domain[domain, step],
            ]
        )


def _filled(member: Ints, instructions: Floats, misses: Floats) -> Floats:
    """[N]: `misses`, and where they are not known as many as that member misses for so many instructions."""
    known = np.isfinite(misses) & np.isfinite(instructions)
    of_member = np.bincount(member[known], misses[known], member.max(initial=0) + 1)
    work = np.bincount(member[known], instructions[known], len(of_member))
    usual = of_member / np.maximum(work, 1.0)
    found: Floats = np.where(np.isfinite(misses), misses, np.nan_to_num(instructions) * usual[member])
    return found


class _Exposures:
    """What caches and memories had of each suspect, and of all: [D, T, A] misses and instructions, [D, T] all misses.

    After a burst, all whose lines are gone fetch them anew at once. So what somebody misses who follows others is not
    taken for his doing, but what he usually misses for as many instructions.
    """

    def __init__(self, misses: Floats, missed: Floats, instructions: Floats, cpus: CpuMap, source: TickRows) -> None:
        self._lines = cpus.llc_lines
        self._missed = missed
        if source.follows is None:
            source.follows = follows(misses, missed, instructions, self._lines, source.stretch_steps, MEMORY_TICKS)
        usual = misses.sum(axis=(0, 1)) / np.maximum(instructions.sum(axis=(0, 1)), 1.0)
        self._caused = np.where(source.follows, instructions * usual, misses)
        self._memory_of_domain = np.array(
            [cpus.memory[cpus.domain == number].max(initial=0) for number in range(cpus.domains)]
        )
        memories = int(self._memory_of_domain.max()) + 1
        self._queued = np.zeros((memories, *misses.shape[1:]))
        self._queued_by_all = np.zeros((memories, misses.shape[1]))
        np.add.at(self._queued, self._memory_of_domain, misses)
        np.add.at(self._queued_by_all, self._memory_of_domain, missed)
        # [A, D, T, M]
        self._felt = np.empty((misses.shape[2], *missed.shape, len(MEMORY_TICKS)), np.float32)
        for place, felt in enumerate(self._felt):
            caused = self._caused[:, :, place] / self._lines
            for number, ticks in enumerate(MEMORY_TICKS):
                felt[:, :, number] = np.apply_along_axis(remembered, 1, caused, ticks)

    def of(self, domain: Ints, step: Ints, own: Floats, is_other: Floats) -> Callable[[slice, Sequence[int]], Floats]:
        """See `Channels`; `own` are the victim's misses, [D, T]."""
        rest = np.maximum(self._missed - own - self._caused @ is_other, 0.0) / self._lines
        felt = np.stack([np.apply_along_axis(remembered, 1, rest, ticks) for ticks in MEMORY_TICKS], axis=2)

        def exposure(part: slice, places: Sequence[int]) -> Floats:
            at = domain[part], step[part]
            found = np.zeros((len(at[0]), len(places), len(MEMORY_TICKS)))
            for number, place in enumerate(places):
                if place == len(is_other):
                    found[:, number] = felt[at]
                elif is_other[place]:
                    found[:, number] = self._felt[place][at]
            return found

        return exposure

    def queue(self, domain: Ints, step: Ints, own: Floats, is_other: Floats) -> Floats:
        """[N, A + 1]: see `Channels`."""
        memory = self._memory_of_domain[domain]
        own_queued = np.zeros_like(self._queued_by_all)
        np.add.at(own_queued, self._memory_of_domain, own)
        of_suspects = self._queued[memory, step] * is_other
        rest = (self._queued_by_all - own_queued)[memory, step] - of_suspects.sum(axis=1)
        return np.column_stack([of_suspects, np.maximum(rest, 0.0)])


def _pauses(step: Ints) -> Floats:
    """[N]: how many ticks it had not run on any CPU; `step` ascends."""
    since = np.diff(step, prepend=step[:1] - _LONGEST_PAUSE_TICKS)
    # Of several CPUs in one tick, all have the pause of the first.
    is_first = since > 0
    gaps = (since[is_first] - 1)[np.cumsum(is_first) - 1] if len(step) else since
    return np.minimum(gaps, _LONGEST_PAUSE_TICKS).astype(np.float64)
