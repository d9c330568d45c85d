# SPDX-License-Identifier: Apache-2.0
"""Whether this process may map what the libraries map, found out before one of them ends it without a word."""

import os
import resource

from tracer.errors import NodeUnsupportedError
from tracer.units import format_bytes

_GIB = 1 << 30
# Measured as VmPeak and VmData of a run and of a report on 2 CPUs: up to 2.9 and 1.6 GB, of which some 0.3 GB are ever
# touched; their threads, whose number follows that of the CPUs, reserve some 0.1 GB each.
_LIMITS = (
    (resource.RLIMIT_AS, "address space", "ulimit -v, LimitAS=", 3 * _GIB),
    (resource.RLIMIT_DATA, "data segment", "ulimit -d, LimitDATA=", 2 * _GIB),
)
_BYTES_A_CPU = _GIB // 4


def require_address_space() -> None:
    """Raises NodeUnsupportedError where the process is limited to less than analysis and tracing map."""
    for number, name, options, least in _LIMITS:
        limit, hard = resource.getrlimit(number)
        needed = least + _BYTES_A_CPU * len(os.sched_getaffinity(0))
        if limit == resource.RLIM_INFINITY or limit >= needed:
            continue
        if hard == resource.RLIM_INFINITY or hard >= needed:
            resource.setrlimit(number, (hard, hard))
            continue
        raise NodeUnsupportedError(
            f"the {name} is limited to {format_bytes(limit)}, and this maps up to {format_bytes(needed)}, most of "
            f"which is never touched; raise the limit ({options})"
        )
