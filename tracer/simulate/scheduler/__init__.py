# SPDX-License-Identifier: Apache-2.0
"""The scheduler of the simulated node: who runs when on which CPU, to the nanosecond, and who waits behind whom.

scheduler.py  from a block's wishes to what was done, for the rest of the simulation
state.py      what is known of threads, CPUs and containers, and what is told
ticks.py      the ticks of a block, compiled
"""

from tracer.simulate.scheduler.scheduler import Schedule, Scheduler
from tracer.simulate.scheduler.state import NOT_KNOWN, QUOTA_PERIOD_TICKS, TICK_NS, Records, Wishes

__all__ = ["NOT_KNOWN", "QUOTA_PERIOD_TICKS", "TICK_NS", "Records", "Schedule", "Scheduler", "Wishes"]
