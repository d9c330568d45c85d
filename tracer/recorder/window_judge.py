# SPDX-License-Identifier: Apache-2.0
"""Rules on what is known by the window: waiting, throttling, counters."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracer.naming import Who, name_of
from tracer.recorder.container_sums import ContainerSums, Ints, numbers
from tracer.recorder.met import Met
from tracer.recorder.own_cpi import OwnCpi
from tracer.recorder.rules import Metric, Rule, Unit

# Who did less in a window says nothing by it: a share of little is any share.
BUSY_SHARE: Final = 0.05
LONGEST_GAP_NS: Final = 1_000_000_000
# Shorter windows are looked at several at a time.
_SHORTEST_NS: Final = 50_000_000
# A wait is known when it ends, as rows of all windows since it began: up to 32,768 ticks, which is that of 1 ms each.
_LATE_NS: Final = 33_000_000_000
_NEVER: Final = -(1 << 60)
_HOUR_NS: Final = 3_600_000_000_000
_COLUMNS: Final = {
    Metric.wait: (),
    Metric.wait_others: ("wait_behind_others_ns",),
    Metric.throttled: ("wait_throttled_ns",),
    Metric.cpi: ("cycles", "instructions"),
    Metric.misses: ("llc_misses", "instructions"),
}

Ints32 = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]


class WindowJudge:
    """Looks at labelled rows of `windows` as they come. One thread uses it."""

    def __init__(self, rules: Sequence[Rule], *, tick_ns: int, window_ticks: int) -> None:
        window_ticks *= max(1, -(-_SHORTEST_NS // (window_ticks * tick_ns)))
        self._rules = rules
        self._tick_ns = tick_ns
        self._window_ns = window_ticks * tick_ns
        self._longest_gap = max(1, LONGEST_GAP_NS // self._window_ns)
        self._utc_ns = 0  # of tick 0
        self._names = sorted({"cpu_time_ns", "wait_time_ns"}.union(*(_COLUMNS[rule.metric] for rule in rules)))
        has_own = any(rule.unit is Unit.times_own for rule in rules)
        windows = -(-(max(rule.duration_ns for rule in rules) + _LATE_NS) // self._window_ns)
        self._sums = ContainerSums(
            self._names,
            window_ticks=window_ticks,
            windows=windows,
            idle_windows=_HOUR_NS // self._window_ns if has_own else windows,
            chosen=self._chosen,
            on_new_line=self._forget,
        )
        self._own = OwnCpi(len(self._sums.who)) if has_own else None
        # By rule and line, the last window of the streak by which it was met last.
        self._met_until = np.full((len(rules), len(self._sums.who)), _NEVER, np.int64)
        # And the last window that did not hold.
        self._broken_at = self._met_until.copy()

    @property
    def left_out(self) -> int:
        """Times that rows of somebody were not looked at, for lack of room."""
        return self._sums.left_out

    def look(self, rows: pa.Table) -> list[Met]:
        """What is met with these rows, and was not before."""
        lines, windows, line_of_row = self._sums.add(rows)
        if not len(lines):
            return []
        newest = int(rows["window_tick"].to_numpy().argmax())
        start_ns = rows["window_start"][newest].cast(pa.timestamp("ns", "UTC")).value
        self._utc_ns = start_ns - rows["window_tick"][newest].as_py() * self._tick_ns
        found = []
        for number, rule in enumerate(self._rules):
            is_chosen = (self._sums.chosen[lines] >> number) & 1 == 1
            some, at = lines[is_chosen], windows[is_chosen]
            values, is_busy = self._values(rule, {name: self._sums.at(name, some, at) for name in self._names}, some)
            holds = is_busy & self._holds(rule, values)
            is_broken = is_busy & ~np.isnan(values) & ~holds
            if len(changed := self._undecided(number, some, at, holds, is_broken)):
                found += self._look_at_streaks(number, rule, changed)
        if self._own is not None:
            self._remember(self._own, rows, line_of_row)
        return found

    def _undecided(self, number: int, lines: Ints, windows: Ints, holds: Bools, is_broken: Bools) -> Ints:
        """Of lines that hold somewhere, those whose streaks have to be looked at.

        They need not be where one that was met goes on, nor where too few windows passed since the last that did not
        hold: that is most of the time, also of a node on which all wait.
        """
        met_until, broken_at = self._met_until[number], self._broken_at[number]
        np.maximum.at(broken_at, lines[is_broken], windows[is_broken])
        # What came late made it hold: nobody remembers the one before that did not.
        broken_at[lines[holds & (windows == broken_at[lines])]] = _NEVER
        since = windows - broken_at[lines]
        is_short = (since > 0) & (since < self._needed(self._rules[number]))
        holding, windows = lines[holds], windows[holds]
        count = np.bincount(holding, minlength=len(met_until))
        first, last = np.full(len(met_until), self._sums.newest), met_until.copy()
        np.minimum.at(first, holding, windows)
        np.maximum.at(last, holding, windows)
        goes_on = (count > 0) & (first == met_until + 1) & (last - met_until == count)
        goes_on[lines[is_broken]] = False
        met_until[goes_on] = last[goes_on]
        lines = lines[holds & ~is_short]
        return np.unique(lines[~goes_on[lines]])

    def _look_at_streaks(self, number: int, rule: Rule, lines: Ints) -> list[Met]:
        """At the latest of each of these lines that is long enough: a Met for all that were not met by it before."""
        sums = {name: self._sums.of(name, lines) for name in self._names}
        values, is_busy = self._values(rule, sums, lines)
        holds = is_busy & self._holds(rule, values)
        is_broken = is_busy & ~np.isnan(values) & ~holds
        first, length = streaks(holds, is_broken, self._longest_gap)
        is_met = length >= self._needed(rule)
        oldest = self._sums.newest - self._sums.windows + 1
        met = []
        for row in np.flatnonzero(is_met.any(axis=1)):
            line, end = lines[row], int(np.flatnonzero(is_met[row])[-1])
            begin = int(first[row, end])
            was_met = self._met_until[number, line] >= oldest + begin
            self._met_until[number, line] = max(self._met_until[number, line], oldest + end)
            if not was_met:
                of_streak = begin + np.flatnonzero(holds[row, begin : end + 1])
                whole = {name: column[row, of_streak].sum(dtype=np.float64) for name, column in sums.items()}
                ((value,), _is_busy) = self._values(
                    rule, {name: np.array([one]) for name, one in whole.items()}, lines[[row]], len(of_streak)
                )
                met.append((float(value), int(line), oldest + begin, oldest + end))
        if not met:
            return []
        value, line, start, end = max(met)
        who = self._sums.who[line]
        assert who is not None
        return [
            Met(
                rule=rule.text,
                who=who,
                name=name_of(who),
                value=rule.shown(value),
                start_ns=self._utc_ns + start * self._window_ns,
                end_ns=self._utc_ns + (end + 1) * self._window_ns,
                others=len(met) - 1,
            )
        ]

    def _values(self, rule: Rule, sums: dict[str, Floats], lines: Ints, windows: int = 1) -> tuple[Floats, Bools]:
        """How much it is in each place, NaN where nobody knows, and whether the container did enough to tell.

        `sums` are of one or more places of each of `lines`, each of so many windows.
        """
        ran, waited = sums["cpu_time_ns"], sums["wait_time_ns"]
        is_busy = np.nan_to_num(ran) + np.nan_to_num(waited) >= BUSY_SHARE * self._window_ns
        values: Floats
        with np.errstate(invalid="ignore", divide="ignore"):
            match rule.metric:
                case Metric.wait:
                    values = waited / (ran + waited)
                case Metric.cpi:
                    values = sums["cycles"] / sums["instructions"]
                    if rule.unit is Unit.times_own and self._own is not None:
                        own = self._own.median(lines)
                        values = values / own.reshape(own.shape + (1,) * (values.ndim - 1))
                case Metric.misses if rule.unit is Unit.per_second:
                    values = sums["llc_misses"] * (1e9 / (windows * self._window_ns))
                case Metric.misses:
                    values = 1000 * sums["llc_misses"] / sums["instructions"]
                case _:
                    values = sums[_COLUMNS[rule.metric][0]] / (ran + waited)
        # Of no instructions, it is nothing that can be told.
        return np.where(np.isinf(values), np.nan, values), is_busy

    @staticmethod
    def _holds(rule: Rule, values: Floats) -> Bools:
        return np.asarray(values >= rule.threshold if rule.is_or_equal else values > rule.threshold)

    def _needed(self, rule: Rule) -> int:
        """How many windows have to hold."""
        return max(1, -(-rule.duration_ns // self._window_ns))

    def _chosen(self, who: Who) -> int:
        return sum(1 << number for number, rule in enumerate(self._rules) if rule.chosen.takes(who))

    def _forget(self, line: int, lines: int) -> None:
        if (more := lines - self._met_until.shape[1]) > 0:
            wider = ((0, 0), (0, more))
            self._met_until = np.pad(self._met_until, wider, constant_values=_NEVER)
            self._broken_at = np.pad(self._broken_at, wider, constant_values=_NEVER)
        self._met_until[:, line] = self._broken_at[:, line] = _NEVER
        if self._own is not None:
            self._own.forget(line, lines)

    def _remember(self, own: OwnCpi, rows: pa.Table, lines: Ints) -> None:
        ticks = rows["ticks"].to_numpy().astype(np.int64)
        did = (lines >= 0) & (numbers(rows, "cpu_time_ns") >= BUSY_SHARE * ticks * self._tick_ns)
        cycles, instructions = (numbers(rows, name)[did] for name in ("cycles", "instructions"))
        now_ns = (self._sums.newest + 1) * self._window_ns
        own.add(lines[did], now_ns, ticks[did] * self._tick_ns, cycles, instructions)


def streaks(holds: Bools, is_broken: Bools, longest_gap: int) -> tuple[Ints32, Ints32]:
    """Of each place of each line of windows: where the streak that it is in began, and how many held in it so far.

    Both are of places that hold, other lengths are 0. Those that neither hold nor are broken do not count; more than
    `longest_gap` of them one after the other end a streak.
    """
    places = np.broadcast_to(np.arange(holds.shape[1], dtype=np.int32), holds.shape)
    said = np.maximum.accumulate(np.where(holds | is_broken, places, np.int32(-longest_gap - 2)), axis=1)
    before = np.concatenate([np.full((len(said), 1), -longest_gap - 2, np.int32), said[:, :-1]], axis=1)
    is_parted = holds & (places - before - 1 > longest_gap)
    count = holds.cumsum(axis=1, dtype=np.int32)
    base = np.maximum.accumulate(np.where(is_parted, count - 1, np.where(is_broken, count, 0)), axis=1)
    length = np.where(holds, count - base, 0)
    return np.maximum.accumulate(np.where(length == 1, places, -1), axis=1), length
