# SPDX-License-Identifier: Apache-2.0
"""What containers did in each of the last windows, in one array: rows that come late add to theirs."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from tracer.naming import Who
from tracer.store.fields import IDENTITY

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

MOST_CONTAINERS: Final = 4096
# 32 MB; where windows to remember are many, there is room for fewer containers.
_MOST_VALUES: Final = 8 << 20
MOST_CGROUPS: Final = 16_384
_FEWEST: Final = 64
_HELPERS: Final = ("sandbox", "monitor")
_NAMES: Final = [field.name for field in IDENTITY if field.name != "cgroup_id"]

Identity = tuple[str | None, ...]


class ContainerSums:
    """Sums by container and window; cgroups within a container are part of it, all others are by themselves.

    `values[name]` has a line for each container and a place for each of the last windows, as a ring; NaN is where
    nothing was measured. Containers that nobody chose have no line, nor have those that come where all are taken.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        window_ticks: int,
        windows: int,
        idle_windows: int,
        chosen: Callable[[Who], int],
        on_new_line: Callable[[int, int], None],
    ) -> None:
        """`idle_windows`: after so many without a row, a container's line may become another's.

        `chosen`: bits of who is looked at, and for what; 0 is nobody. `on_new_line` is called before a line is
        somebody else's, with it and how many lines there are.
        """
        self.windows = windows
        self.newest = -1
        """The last window of which there was a row, counted from tick 0; -1 before that."""
        self.left_out = 0
        """Times that rows of a chosen container were not looked at, for lack of room."""
        self._window_ticks = window_ticks
        self._idle_windows = max(idle_windows, windows)
        self._chosen_by = chosen
        self._on_new_line = on_new_line
        self._most = max(1, min(MOST_CONTAINERS, _MOST_VALUES // (len(names) * windows)))
        size = min(_FEWEST, self._most)
        self.values: dict[str, Floats] = {name: np.full((size, windows), np.nan, np.float32) for name in names}
        self.chosen = np.zeros(size, np.int64)
        self.who: list[Who | None] = [None] * size
        self._last = np.full(size, -1, np.int64)
        self._keys: list[str | int] = [-1] * size
        self._cgroups_of: list[set[int]] = [set() for _ in range(size)]
        self._known: dict[int, tuple[Identity, int]] = {}  # by cgroup id: its line, -1 if nobody chose it
        self._lines: dict[str | int, int] = {}  # by container id or cgroup id

    def add(self, rows: pa.Table) -> tuple[Ints, Ints, Ints]:
        """Takes rows of `windows`. Returns line and window of each cell that changed, and the line of each row."""
        first = rows["window_tick"].to_numpy().astype(np.int64) // self._window_ticks
        self._advance(int(first.max(initial=-1)))
        line_of_row = self._lines_of(rows)
        chosen = np.flatnonzero(line_of_row >= 0)
        lines, windows = line_of_row[chosen], first[chosen]
        # Longer windows, as of an overloaded tracer, are as many usual ones, each with its share.
        ticks = rows["ticks"].to_numpy()[chosen].astype(np.int64)
        parts = np.clip(-(-ticks // self._window_ticks), 1, self.windows)
        if parts.max(initial=1) > 1:
            windows = np.repeat(windows, parts) + np.arange(parts.sum()) - np.repeat(parts.cumsum() - parts, parts)
            lines = np.repeat(lines, parts)
            self._advance(int(windows.max()))
        np.maximum.at(self._last, lines, windows)
        is_there = windows > self.newest - self.windows
        lines, windows = lines[is_there], windows[is_there]
        cells = lines * self.windows + windows % self.windows
        for name, values in self.values.items():
            amounts = np.repeat(numbers(rows, name)[chosen] / parts, parts)[is_there]
            _add(values.reshape(-1), cells, amounts)
        _cells, once = np.unique(cells, return_index=True)
        return lines[once], windows[once], line_of_row

    def at(self, name: str, lines: Ints, windows: Ints) -> Floats:
        """Values of these cells."""
        return self.values[name][lines, windows % self.windows]

    def of(self, name: str, lines: Ints) -> Floats:
        """Of each of these lines all windows, the newest last."""
        order = (self.newest + 1 + np.arange(self.windows)) % self.windows
        return self.values[name][lines][:, order]

    def _advance(self, newest: int) -> None:
        if newest <= self.newest:
            return
        new = min(newest - self.newest, self.windows)
        places = np.arange(newest - new + 1, newest + 1) % self.windows
        for values in self.values.values():
            values[:, places] = np.nan
        self.newest = newest

    def _lines_of(self, rows: pa.Table) -> Ints:
        """The line of each row's container, -1 for none."""
        # As the files have it: one of 2^63 or more is the negative number of the same bits.
        ids = rows["cgroup_id"].to_numpy().astype(np.int64)
        unique, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
        there = pl.from_arrow(rows.select(_NAMES))
        assert isinstance(there, pl.DataFrame)
        names = there[first].iter_rows()
        lines = [self._line_of(id_, identity) for id_, identity in zip(unique.tolist(), names, strict=True)]
        return np.array(lines, np.int64)[inverse]

    def _line_of(self, cgroup_id: int, identity: Identity) -> int:
        known = self._known.get(cgroup_id)
        if known is not None and known[0] == identity:
            return known[1]
        if len(self._known) >= MOST_CGROUPS:
            # Those that are still there come again, and find their lines by their containers.
            self._known.clear()
            for cgroups in self._cgroups_of:
                cgroups.clear()
            known = None
        who = Who(cgroup_id=cgroup_id, **dict(zip(_NAMES, identity, strict=True)))
        chosen = self._chosen_by(who)
        line = -1 if known is None else known[1]
        if line < 0:
            is_part = who.container_id is not None and who.cgroup_kind not in _HELPERS
            key = who.container_id if is_part and who.container_id else cgroup_id
            line = self._lines.get(key, -1)
            if line < 0 and chosen:
                line = self._new_line(key)
                if line < 0:
                    self.left_out += 1
                    return -1
            if line >= 0:
                self._cgroups_of[line].add(cgroup_id)
                self.chosen[line] |= chosen
        else:
            # It has another name.
            self.chosen[line] = chosen
        if line >= 0 and (self.who[line] is None or who.cgroup_kind == "container" or known is not None):
            self.who[line] = who
        self._known[cgroup_id] = (identity, line)
        return line

    def _new_line(self, key: str | int) -> int:
        """One that nobody has or needs any more; -1 where there is no room."""
        line = int(self._last.argmin())
        if self._last[line] >= 0 and self.newest - self._last[line] < self._idle_windows:
            if len(self.who) < self._most:
                line = len(self.who)
                self._grow()
            elif self.newest - self._last[line] < self.windows:
                return -1
        for cgroup_id in self._cgroups_of[line]:
            self._known.pop(cgroup_id, None)
        self._lines.pop(self._keys[line], None)
        self._lines[key] = line
        self._keys[line] = key
        self._cgroups_of[line] = set()
        self.who[line] = None
        self.chosen[line] = 0
        # Nobody else gets it before its rows have come.
        self._last[line] = max(self.newest, 0)
        for values in self.values.values():
            values[line] = np.nan
        self._on_new_line(line, len(self.who))
        return line

    def _grow(self) -> None:
        more = min(len(self.who), self._most - len(self.who))
        for name, values in self.values.items():
            self.values[name] = np.concatenate([values, np.full((more, self.windows), np.nan, np.float32)])
        self.chosen = np.concatenate([self.chosen, np.zeros(more, np.int64)])
        self._last = np.concatenate([self._last, np.full(more, -1, np.int64)])
        self.who += [None] * more
        self._keys += [-1] * more
        self._cgroups_of += [set() for _ in range(more)]


def numbers(rows: pa.Table, name: str) -> npt.NDArray[np.float64]:
    """A column of them; NaN is null."""
    return np.asarray(rows[name].to_numpy(), np.float64)


def _add(values: Floats, places: Ints, amounts: npt.NDArray[np.float64]) -> None:
    """Null and a number are the number."""
    is_known = ~np.isnan(amounts)
    places = places[is_known]
    values[places] = np.nan_to_num(values[places])
    np.add.at(values, places, amounts[is_known].astype(np.float32))
