# SPDX-License-Identifier: Apache-2.0
"""Sums of what threads have, [T, J]."""

import numpy as np

from tracer.simulate.random_times import Floats, Ints


def sum_by_cpu(values: Floats | Ints, cpu: Ints, cpus: int) -> Floats:
    """[T, K] sums of [T, J] values; `cpu` is each thread's."""
    cells = np.arange(len(values))[:, None] * cpus + cpu
    sums = np.bincount(cells.ravel(), values.ravel(), len(values) * cpus)
    return sums.reshape(len(values), cpus).astype(np.float64)


def sum_by_container(values: Floats | Ints, container_of_thread: Ints, containers: int) -> Floats:
    """[T, C] sums of [T, J] values; a container's threads lie side by side."""
    firsts = np.searchsorted(container_of_thread, np.arange(containers))
    return np.add.reduceat(values.astype(np.float64), firsts, axis=1)
