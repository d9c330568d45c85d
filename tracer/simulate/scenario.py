# SPDX-License-Identifier: Apache-2.0
"""What a scenario is made of: containers and how they behave, and what is planted among them."""

from collections.abc import Sequence

import msgspec

from tracer.errors import UsageError

# An effect comes at most so late.
LONGEST_DELAY_TICKS = 16


class Bursts(msgspec.Struct, frozen=True, kw_only=True):
    """Times in which all threads of a container run without pause and miss the cache far more often than usual.

    Lengths and gaps are in ticks: a length is drawn evenly from `lengths`, a gap has an exponential distribution.
    `begin` and `end` bound them, as shares of the run. `follows_load`: they come when the node's shared load is high.
    """

    mpki: float
    lengths: tuple[int, int] = (5, 40)
    mean_gap: float = 40.0
    begin: float = 0.1
    end: float = 0.9
    follows_load: bool = False


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """One container, or with `unit` a systemd unit, or with neither the kernel's own threads in the root cgroup.

    threads, load: how many run, and the share of its time that each wants, on average.
    domain: LLC domain whose CPUs its threads are kept on.
    is_batch: it runs for the time it wants, whatever comes of it; others want instructions, and take longer for the
        same when they are slowed down.
    shared_load: how far its load follows the node's, 0 to 1.
    cpi: cycles per instruction, alone, in ticks of half a tick's work; `work_effect` is the share of it by which full
        ticks are slower than empty ones.
    mpki: LLC misses per 1,000 instructions; their cost is part of `cpi`.
    cache_sensitivity: further share of `cpi` if neighbours displace all of its lines; `bandwidth_sensitivity` if the
        memory is busy; `smt_sensitivity` if the sibling CPU is; `delay_ticks` is how much later the first two come.
    cold_cycles: cycles it takes after a long pause until its lines are back.
    cpu_quota: CPUs it may use, in periods of 100 ms. `begin`, `end`: when it lives, as shares of the run.
    """

    name: str
    pod: str | None = None
    namespace: str = "default"
    unit: str | None = None
    threads: int = 1
    load: float = 0.25
    domain: int = 0
    is_batch: bool = False
    shared_load: float = 0.5
    cpi: float = 1.0
    work_effect: float = 0.0
    mpki: float = 1.5
    cache_sensitivity: float = 0.2
    bandwidth_sensitivity: float = 0.1
    smt_sensitivity: float = 0.08
    delay_ticks: int = 0
    cold_cycles: float = 60_000.0
    cpu_quota: float | None = None
    memory_bytes: int = 256 * 2**20
    begin: float = 0.0
    end: float = 1.0
    bursts: Bursts | None = None

    @property
    def label(self) -> str:
        """What people call it: pod and container, or the unit, or `/`."""
        if self.pod is not None:
            return f"{self.pod}/{self.name}"
        return self.unit or "/"


class CounterLoss(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the counters: `coverage` bounds each CPU's share of the time in which they count.

    In a share `llc_missing` of the time nobody can read the LLC counter.
    """

    coverage: tuple[float, float]
    llc_missing: float


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """Containers on a node. `planted` are the labels of those that harm others on purpose."""

    name: str
    containers: Sequence[Container]
    planted: Sequence[str] = ()
    counter_loss: CounterLoss | None = None

    def check(self, llc_domains: int) -> None:
        """Raises UsageError for one that cannot be on a node of so many LLC domains."""
        for container in self.containers:
            if container.threads < 1:
                raise UsageError(f"scenario: {container.label!r} has no thread")
            if not 0 <= container.domain < llc_domains:
                raise UsageError(f"scenario: {container.label!r} is in LLC domain {container.domain}; there is none")
            if not 0 <= container.delay_ticks <= LONGEST_DELAY_TICKS:
                raise UsageError(f"scenario: {container.label!r} feels others 0 to {LONGEST_DELAY_TICKS} ticks late")
        if len({container.label for container in self.containers}) < max(1, len(self.containers)):
            raise UsageError("scenario: it wants containers, each with a name of its own")
