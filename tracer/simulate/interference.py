# SPDX-License-Identifier: Apache-2.0
"""How much slower neighbours make a container: pure functions of what is in a tick, any shape of array.

Traffic is LLC misses in a tick, of all CPUs of an LLC domain.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Misses of others in a tick at which they have displaced half of what they could.
HALF_DISPLACED = 60_000.0
# Misses in a tick that the memory of one LLC domain can serve, and the share of it from which it is felt.
MEMORY_CAPACITY = 250_000.0
_FELT_FROM = 0.3


def displaced_share(others_traffic: Floats) -> Floats:
    """Share of a container's lines that its neighbours displace, 0 to 1: little for little traffic, then all."""
    squared = (others_traffic / HALF_DISPLACED) ** 2
    return squared / (1 + squared)


def memory_delay(traffic: Floats) -> Floats:
    """How much longer a miss takes, as a multiple of what it takes when memory is as good as full."""
    beyond = np.maximum(0.0, traffic / MEMORY_CAPACITY - _FELT_FROM)
    return (beyond / (1 - _FELT_FROM)) ** 2


def slowdown(
    *,
    own_traffic: Floats,
    others_traffic: Floats,
    sibling_busy: Floats,
    cache_sensitivity: Floats,
    bandwidth_sensitivity: Floats,
    smt_sensitivity: Floats,
) -> Floats:
    """Cycles per instruction as a multiple of what they would be alone.

    `sibling_busy`: share of the tick in which others run on the sibling CPU.
    """
    waiting = memory_delay(own_traffic + others_traffic) - memory_delay(own_traffic)
    in_caches = 1 + cache_sensitivity * displaced_share(others_traffic) + bandwidth_sensitivity * waiting
    return in_caches * (1 + smt_sensitivity * sibling_busy)
