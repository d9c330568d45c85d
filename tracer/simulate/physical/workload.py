# SPDX-License-Identifier: Apache-2.0
"""What a machine is made of, and what containers do on it: all that a physical scenario says."""

from collections.abc import Sequence

import msgspec

from tracer.simulate.scenario import Container
from tracer.simulate.shape import NodeShape


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Caches, memory and clocks, beside the CPUs and LLC domains of a `NodeShape`.

    llc_bytes: of each last-level cache; `ways` of it a set; `random_share` of what it puts out goes at random.
    l2_bytes: of a core's private caches. llc_ns, memory_ns: latency of a hit, and of memory that is idle.
    memory_bytes_per_ns: what a controller can move; `llcs_per_controller` share one. burst_lines: lines that arrive
        there at once, for which the next ones wait.
    top_ghz, all_cores_ghz: with one core of a package busy, and with all.
    """

    llc_bytes: int
    ways: int = 16
    random_share: float = 0.1
    l2_bytes: int = 2**20
    llc_ns: float = 14.0
    memory_ns: float = 90.0
    memory_bytes_per_ns: float = 20.0
    llcs_per_controller: int = 1
    burst_lines: float = 8.0
    top_ghz: float = 3.4
    all_cores_ghz: float = 2.8


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of a container's work uses a core and its caches; all by instruction, alone on a core.

    core_cpi: cycles, if nothing missed the private caches. accesses: to the last-level cache.
    hot, warm: shares of these that go to its small and to its large set of lines; the rest is a stream of lines that
    nobody uses again. overlap, stream_overlap: how many misses are under way at once; prefetchers make it high for
    streams. written: lines written back for each one fetched.
    """

    core_cpi: float = 0.8
    accesses: float = 0.010
    hot: float = 0.7
    warm: float = 0.28
    overlap: float = 2.5
    stream_overlap: float = 8.0
    written: float = 0.2


class Bursts(msgspec.Struct, frozen=True, kw_only=True):
    """Work that comes at once: `lengths` in ms that it takes alone on all threads, pauses of `mean_gap` ms between.

    period: with it, bursts begin by a timer, each so many ms, give or take `jitter`. begin, end: shares of the run.
    with_label: they begin when those of that container do, with a probability of `together`.
    """

    lengths: tuple[float, float] = (5.0, 40.0)
    mean_gap: float = 100.0
    period: float | None = None
    jitter: float = 0.0
    begin: float = 0.0
    end: float = 1.0
    with_label: str | None = None
    together: float = 1.0


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Instructions of `to`'s for each of one's own: of ordinary and of heavy requests."""

    to: str
    ordinary: float = 0.0
    heavy: float = 0.0


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A container that does something.

    container: who it is, how many threads it has. domains: LLC domains of its threads, by turns.
    requests_per_s, request_instructions: those it gets, and how long they are in the mean; `spread` of the logarithm.
    heavy_share, heavy_size: of its requests, and how many times as long; `heavy` is how they use the machine.
    shared_load: how far requests follow the node's load, 0 to 1; own_load: spread of what it has of its own.
    job: how bursts, timers and collections use the machine. always: it has work without end.
    collection_every, collection: instructions after which it collects garbage, and what that takes.
    hot_bytes, warm_bytes: its sets of lines; with `scans` it goes through the warm ones in a circle.
    smt_cost: how many times as long its core's part takes beside a busy sibling.
    noise: spread of its speed from tick to tick; phases: of its mix of work, over some seconds.
    calls: what its requests make others do.
    """

    container: Container
    domains: tuple[int, ...] = (0,)
    requests_per_s: float = 0.0
    request_instructions: float = 1e6
    spread: float = 0.5
    heavy_share: float = 0.0
    heavy_size: float = 4.0
    shared_load: float = 0.5
    own_load: float = 0.3
    work: Work = Work()
    heavy: Work = Work()
    job: Work = Work()
    bursts: Bursts | None = None
    always: bool = False
    collection_every: float = 0.0
    collection: float = 0.0
    hot_bytes: float = 256 * 2**10
    warm_bytes: float = 2 * 2**20
    scans: bool = False
    smt_cost: float = 1.4
    noise: float = 0.05
    phases: float = 0.08
    calls: Sequence[Call] = ()


class PhysicalScenario(msgspec.Struct, frozen=True, kw_only=True):
    """Workloads on a machine. `planted` harm others on purpose; `together` are groups that act at the same times."""

    name: str
    shape: NodeShape
    machine: Machine
    workloads: Sequence[Workload]
    planted: Sequence[str] = ()
    together: Sequence[tuple[str, ...]] = ()
