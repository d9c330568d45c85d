# SPDX-License-Identifier: Apache-2.0
"""The order in which parts of the results are left out: first what takes the most, and is missed the least."""

from collections.abc import Iterator
from functools import partial

from tracer.pipeline.housekeeping.overload import Step
from tracer.pipeline.options import RunOptions
from tracer.pipeline.tick_tables import TickTables

_LONGER = 4
_LONGEST_TICKS = 65_535
_LONGEST_NS = 10_000_000_000


def steps_of(options: RunOptions, tables: TickTables) -> Iterator[Step]:
    """Those that there are with these options."""
    if options.ticks:
        yield Step("`ticks` are not written", partial(tables.write_ticks, False), partial(tables.write_ticks, True))
    if options.waits:
        yield Step("`waits` are not written", partial(tables.write_waits, False), partial(tables.write_waits, True))
    longer = options.window_ticks * _LONGER
    if longer <= _LONGEST_TICKS and longer * options.tick_ns <= _LONGEST_NS:
        use_length = tables.windows.use_length
        yield Step(
            f"windows are of {longer} ticks", partial(use_length, longer), partial(use_length, options.window_ticks)
        )
