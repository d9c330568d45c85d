# SPDX-License-Identifier: Apache-2.0
"""Who gets how much of each CPU's tick. Times are shares of a tick, [T, J] for threads of which `cpu` is the CPU."""

from typing import NamedTuple

import numpy as np

from tracer.simulate.random_times import Floats, Ints

QUOTA_PERIOD_TICKS = 100


def sum_by_cpu(values: Floats | Ints, cpu: Ints, cpus: int) -> Floats:
    """[T, K] sums of [T, J] values."""
    cells = np.arange(len(values))[:, None] * cpus + cpu
    sums = np.bincount(cells.ravel(), values.ravel(), len(values) * cpus)
    return sums.reshape(len(values), cpus).astype(np.float64)


def sum_by_container(values: Floats | Ints, container_of_thread: Ints, containers: int) -> Floats:
    """[T, C] sums of [T, J] values; a container's threads lie side by side."""
    firsts = np.searchsorted(container_of_thread, np.arange(containers))
    return np.add.reduceat(values.astype(np.float64), firsts, axis=1)


def share_cpus(work: Floats, cpu: Ints, cpus: int) -> Floats:
    """What each gets where a CPU's threads want more than a tick: of each the same share."""
    wanted = np.take_along_axis(sum_by_cpu(work, cpu, cpus), cpu, axis=1)
    return work / np.maximum(1.0, wanted)


class Throttled(NamedTuple):
    """`time` is [T, J]: what is left. `missed`, [T, C], is what a quota took. Both numbers of periods are [C]."""

    time: Floats
    missed: Floats
    throttled_periods: Ints
    active_periods: Ints


def throttle(time: Floats, container_of_thread: Ints, quota_ticks: Floats) -> Throttled:
    """Takes what is beyond each container's quota in a period. The first tick begins one; no quota is infinite.

    Kernel: cpu.max, Documentation/scheduler/sched-bwc.rst.
    """
    containers = len(quota_ticks)
    wanted = sum_by_container(time, container_of_thread, containers)
    ticks = len(time)
    periods = -(-ticks // QUOTA_PERIOD_TICKS)
    padded = np.zeros((periods * QUOTA_PERIOD_TICKS, containers))
    padded[:ticks] = wanted
    by_period = padded.reshape(periods, QUOTA_PERIOD_TICKS, containers)
    before = np.cumsum(by_period, axis=1) - by_period
    let = np.clip(quota_ticks - before, 0.0, by_period).reshape(padded.shape)[:ticks]
    missed = wanted - let
    missed[missed < 1e-9] = 0.0
    has_quota = np.isfinite(quota_ticks)
    is_missed = np.zeros(padded.shape, bool)
    is_missed[:ticks] = missed > 0
    return Throttled(
        time=time * np.divide(let, wanted, out=np.ones_like(let), where=wanted > 0)[:, container_of_thread],
        missed=missed,
        throttled_periods=is_missed.reshape(by_period.shape).any(axis=1).sum(axis=0),
        active_periods=(by_period.any(axis=1) & has_quota).sum(axis=0),
    )


def stretch(time: Floats, longer: Floats, cpu: Ints, cpus: int) -> Floats:
    """`time` with what each needs longer, as far as its CPU has room for it."""
    room = 1.0 - sum_by_cpu(time, cpu, cpus)
    needed = sum_by_cpu(longer, cpu, cpus)
    granted = np.clip(np.divide(room, needed, out=np.ones_like(room), where=needed > 0), 0.0, 1.0)
    given: Floats = longer * np.take_along_axis(granted, cpu, axis=1)
    return time + given
