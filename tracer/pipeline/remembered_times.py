# SPDX-License-Identifier: Apache-2.0
"""Who held the CPUs in ticks and windows that are written already, for waits that end late."""

import polars as pl

from tracer.pipeline.wait_holders import HOLDERS_SCHEMA, Times, by_window, share_out, times_of

# For waits that end so late: who held the CPUs in which tick, for a second at the default, and in which window. Of what
# is older, the holder is unknown.
_REMEMBERED_TICKS = 1000
_REMEMBERED_WINDOW_TICKS = 1 << 15


class RememberedTimes:
    """Who held the CPUs, and who was throttled, for the waits that end now: by tick, and of longer ago by window."""

    def __init__(self, tick_ns: int, window_ticks: int) -> None:
        self._tick_ns = tick_ns
        self.window_ticks = window_ticks
        self._held: list[Times] = []
        self._throttled: list[Times] = []
        self._held_in_windows: list[Times] = []
        self._throttled_in_windows: list[Times] = []
        # The oldest tick of which it is still known by tick.
        self._first_tick = 0

    def add_throttled(self, times: Times) -> None:
        """For how long which cgroup was throttled on which CPU, by its own limit or one above it."""
        self._throttled.append(times)
        self._throttled_in_windows.append(by_window(times, self.window_ticks))

    def share_out(self, records: pl.DataFrame) -> pl.DataFrame:
        """HOLDERS_SCHEMA of these records (RECORDS_SCHEMA), whose own times are remembered from now on."""
        if records["wait_time_ns"].null_count() == records.height:
            return HOLDERS_SCHEMA.to_frame()
        now = times_of(records)
        late = pl.col("tick") < self._first_tick
        self._held.append(now)
        holders = share_out(
            records.filter(~late), self._held, self._throttled, tick_ns=self._tick_ns, window_ticks=self.window_ticks
        )
        self._held_in_windows.append(by_window(now, self.window_ticks))
        if (late_waits := records.filter(late, pl.col("wait_time_ns") > 0)).height:
            # A wait that filled a window from end to end was behind everybody who held the CPU in it.
            of_windows = share_out(
                late_waits.with_columns(pl.col("tick") // self.window_ticks * self.window_ticks),
                self._held_in_windows,
                self._throttled_in_windows,
                tick_ns=self._tick_ns * self.window_ticks,
                window_ticks=self.window_ticks,
                begun_below_ns=0,
            )
            holders = pl.concat([holders, of_windows])
        # Only now: records that were read late, several seconds at once, are of the same time as their waits.
        self._forget_before(max(self._first_tick, int(records["tick"].max()) - _REMEMBERED_TICKS))  # type: ignore[arg-type]
        return holders

    def _forget_before(self, tick: int) -> None:
        self._first_tick = tick
        window_tick = max(0, tick - _REMEMBERED_WINDOW_TICKS)
        self._held, self._throttled = _since(self._held, tick), _since(self._throttled, tick)
        self._held_in_windows = _since(self._held_in_windows, window_tick)
        self._throttled_in_windows = _since(self._throttled_in_windows, window_tick)


def _since(remembered: list[Times], tick: int) -> list[Times]:
    return [recent for times in remembered if len((recent := times.since(tick)).tick)]
