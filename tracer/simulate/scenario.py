# SPDX-License-Identifier: Apache-2.0
"""What a scenario is made of: containers and how they behave, and what is planted among them."""

from collections.abc import Sequence

import msgspec

from tracer.errors import UsageError
from tracer.simulate.shape import NodeShape

# An effect comes at most so late.
LONGEST_DELAY_TICKS = 16
# Of cpu.weight, and of cpu.max with periods of 100 ms. Kernel: Documentation/admin-guide/cgroup-v2.rst.
_HIGHEST_WEIGHT = 10_000
_SMALLEST_QUOTA = 0.01


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
    work: share of a tick that a thread wants in the ticks in which it works, on average; 0.6, or 0.95 of a batch's.
    domain: LLC domain whose CPUs its threads are kept on.
    cpus: only these of the domain's, if given.
    is_batch: it runs for the time it is given, whatever comes of it; others want instructions, take longer for the
        same when they are slowed down, and catch up with what they could not do.
    shared_load: how far its load follows the node's, 0 to 1.
    cpi: cycles per instruction, alone, in ticks of half a tick's work; `work_effect` is the share of it by which full
        ticks are slower than empty ones.
    mpki: LLC misses per 1,000 instructions; their cost is part of `cpi`.
    cache_sensitivity: further share of `cpi` if neighbours displace all of its lines; `bandwidth_sensitivity` if the
        memory is busy; `smt_sensitivity` if the sibling CPU is; `delay_ticks` is how much later the first two come.
    cold_cycles: cycles it takes after a long pause until its lines are back.
    cpu_weight: its share of a CPU that several want, as in cpu.weight, for all of its threads together.
    cpu_quota: CPUs it may use, in periods of 100 ms. `begin`, `end`: when it lives, as shares of the run.
    """

    name: str
    pod: str | None = None
    namespace: str = "default"
    unit: str | None = None
    threads: int = 1
    load: float = 0.25
    work: float | None = None
    domain: int = 0
    cpus: Sequence[int] | None = None
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
    cpu_weight: int = 100
    cpu_quota: float | None = None
    memory_bytes: int = 256 * 2**20
    begin: float = 0.0
    end: float = 1.0
    bursts: Bursts | None = None

    @property
    def label(self) -> str:
        """What people call it, as `tracer.naming.name_of`: namespace, pod and container, or the unit, or `/`."""
        if self.pod is not None:
            return "/".join(filter(None, (self.namespace, self.pod, self.name)))
        return self.unit or "/"

    def allowed_cpus(self, shape: NodeShape) -> list[int]:
        """The CPUs on which it may be, in the order in which a scheduler fills them."""
        in_domain: list[int] = shape.order_of_domain(self.domain).tolist()
        return [cpu for cpu in in_domain if self.cpus is None or cpu in self.cpus]


class CounterLoss(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the counters: `coverage` bounds each CPU's share of the time in which they count.

    In a share `llc_missing` of the time nobody can read the LLC counter.
    """

    coverage: tuple[float, float]
    llc_missing: float


class Scheduling(msgspec.Struct, frozen=True, kw_only=True):
    """How the node's scheduler is set.

    slice_us: how long a thread runs before another has its turn. wakes_preempt: who wakes and has had less than the
    one who runs has its turn at once. leaving_idle_us: until an idle CPU runs anybody.
    """

    slice_us: int = 3_000
    wakes_preempt: bool = True
    leaving_idle_us: int = 15


class Steal(msgspec.Struct, frozen=True, kw_only=True):
    """What the hypervisor takes of a CPU: a share drawn evenly from `shares` (below 0 nothing) for some time."""

    shares: tuple[float, float]
    mean_ticks: float


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """Containers on a node. `planted` are the labels of those that harm others on purpose."""

    name: str
    containers: Sequence[Container]
    planted: Sequence[str] = ()
    counter_loss: CounterLoss | None = None
    scheduling: Scheduling = Scheduling()
    steal: Steal | None = None

    def check(self, shape: NodeShape) -> None:
        """Raises UsageError for one that cannot be on a node of this shape."""
        for container in self.containers:
            if container.threads < 1:
                raise UsageError(f"scenario: {container.label!r} has no thread")
            if not 0 <= container.domain < shape.llc_domains:
                raise UsageError(f"scenario: {container.label!r} is in LLC domain {container.domain}; there is none")
            if not container.allowed_cpus(shape):
                raise UsageError(f"scenario: {container.label!r} may run on no CPU of its LLC domain")
            if not 1 <= container.cpu_weight <= _HIGHEST_WEIGHT:
                raise UsageError(f"scenario: {container.label!r} has a weight that is not 1 to {_HIGHEST_WEIGHT}")
            if container.cpu_quota is not None and not container.cpu_quota >= _SMALLEST_QUOTA:
                raise UsageError(f"scenario: {container.label!r} has a quota below {_SMALLEST_QUOTA} CPUs")
            if not 0 <= container.delay_ticks <= LONGEST_DELAY_TICKS:
                raise UsageError(f"scenario: {container.label!r} feels others 0 to {LONGEST_DELAY_TICKS} ticks late")
        if len({container.label for container in self.containers}) < max(1, len(self.containers)):
            raise UsageError("scenario: it wants containers, each with a name of its own")
        if self.scheduling.slice_us < 1 or self.scheduling.leaving_idle_us < 0:
            raise UsageError("scenario: a slice takes 1 us or more, and leaving idle time 0 or more")
        if self.steal is not None and not (self.steal.shares[0] <= self.steal.shares[1] <= 1):
            raise UsageError("scenario: of a CPU at most all is stolen")
