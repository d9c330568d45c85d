# SPDX-License-Identifier: Apache-2.0
"""What a report says, as data: `tracer report --json` is this, and its text and pictures are made from it.

Shares are of 1, cycles are CPU cycles, times are UTC. A field that is None was not measured or cannot be told.
Names are as somebody chose them, so whoever shows them escapes them.
"""

from typing import Literal

import msgspec

from tracer.analysis.moments import Moment

FINDINGS_VERSION = 2

Basis = Literal["ticks", "windows", "cpu-time"]
ExplanationKind = Literal[
    "throttling", "cpu-pressure", "memory-pressure", "io-pressure", "reclaim", "migration", "smt", "cold-cache", "steal"
]
Verdict = Literal["no", "possible", "likely", "unknown"]
WaitCause = Literal["others", "several", "fair-share", "own-threads", "own-limit", "placement", "unknown", "little"]
Throttling = Literal["measured", "by-second", "unknown"]
CostKind = Literal["waiting", "throttling", "cache"]


class Container(msgspec.Struct, frozen=True, kw_only=True, rename={"kind": "cgroup_kind"}):
    """Who it is: all cgroups of one name on one node, such as a container and its restarts.

    `name` is `tracer.naming.name_of`. The identity columns are those of the cgroup that was there last, `cgroup_ids`
    are all.
    """

    node_name: str
    name: str
    namespace: str | None
    kind: str
    cgroup_ids: list[int]
    cgroup_id: int | None = None
    cgroup_path: str | None = None
    runtime: str | None = None
    container_id: str | None = None
    container_name: str | None = None
    pod_name: str | None = None
    pod_uid: str | None = None
    qos_class: str | None = None


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A value and its interval of 95 %."""

    value: float
    low: float
    high: float


class TimeRange(msgspec.Struct, frozen=True, kw_only=True):
    """From `start` to before `end`: when `share` (0 to 1) of the lost cycles were lost."""

    start: Moment
    end: Moment
    share: float


class Bursts(msgspec.Struct, frozen=True, kw_only=True):
    """Times in which an aggressor's traffic was high without a break: how many, and how long most of them were.

    `short_ms` and `long_ms` are the 10th and the 90th percentile. A burst is never told shorter than what was
    recorded: a tick, or a window.
    """

    count: int
    short_ms: float
    median_ms: float
    long_ms: float


class Aggressor(msgspec.Struct, frozen=True, kw_only=True):
    """Who took cycles from a victim.

    `lost_cycles` are those the victim would not have needed without it; `lost_share` of all the victim's cycles, and
    `share_of_loss` of what it lost to all its aggressors. `confidence` is 1 less the probability that chance alone
    shows as much, after the correction for the number of pairs looked at. `delay_ticks` is how much later the victim
    feels it (ticks only). `traffic_bytes_per_second` is its LLC misses times the line size, while it ran.
    """

    container: Container
    lost_cycles: Estimate
    lost_share: Estimate
    share_of_loss: float
    confidence: float
    correlation: float | None
    delay_ticks: int | None
    traffic_bytes_per_second: float | None
    bursts: Bursts | None
    time_ranges: list[TimeRange]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Something else that could have slowed the container down, and what was measured of it. `text` says it."""

    kind: ExplanationKind
    verdict: Verdict
    value: float | None
    text: str


class NoisyAndQuiet(msgspec.Struct, frozen=True, kw_only=True):
    """Mean CPI of a container while its neighbours miss most (the noisiest 5 %), and in the middle half."""

    noisy_cpi: float
    quiet_cpi: float
    ratio: float


class Victim(msgspec.Struct, frozen=True, kw_only=True):
    """A container that lost cycles to others, with those that took them, the most first."""

    container: Container
    cpu_time_ns: int
    cycles: int
    instructions: int
    cpi: float
    lost_cycles: Estimate
    lost_share: Estimate
    noisy_and_quiet: NoisyAndQuiet | None
    aggressors: list[Aggressor]
    other_explanations: list[Explanation]


class Joint(msgspec.Struct, frozen=True, kw_only=True):
    """What a victim lost to several whose traffic comes at the same times, so that nobody can tell them apart.

    `cpu_time_ns` is the victim's; the other fields are as of an `Aggressor`.
    """

    victim: Container
    cpu_time_ns: int
    aggressors: list[Container]
    lost_cycles: Estimate
    lost_share: Estimate
    confidence: float


class Untold(msgspec.Struct, frozen=True, kw_only=True):
    """A container of which nobody can tell whether it lost less than `detectable_share` to these: as their traffic
    varied too little, or it ran too rarely.
    """

    container: Container
    suspects: list[Container]
    detectable_share: float


class WaitHolder(msgspec.Struct, frozen=True, kw_only=True, rename={"wait_ns": "wait_time_ns"}):
    """Who held the CPU for `wait_ns` while tasks of another were ready; None: several that held it for little each.

    `held_back_ns` of it fell in times in which it had more CPU time for its weight than the one that waited.
    """

    container: Container | None
    wait_ns: int
    held_back_ns: int


class CpuWait(msgspec.Struct, frozen=True, kw_only=True):
    """Of a container's waiting, the `share` (0 to 1) of waits that ended on a CPU."""

    cpu: int
    share: float


# As the columns of `windows` are called.
_WAITS = {
    "stolen_ns": "stolen_time_ns",
    "behind_others_ns": "wait_behind_others_ns",
    "behind_self_ns": "wait_behind_self_ns",
    "throttled_ns": "wait_throttled_ns",
    "idle_ns": "wait_idle_ns",
    "unknown_ns": "wait_unknown_ns",
}


class TimeSpent(msgspec.Struct, frozen=True, kw_only=True, rename=_WAITS):
    """Where a container's time went, as measured at each switch of tasks; times in ns, summed over its tasks.

    `time_ns` is what was recorded from its first to its last window: a task that is ready all the time makes as much.
    What its tasks were ready to run is `ran_ns` + `stolen_ns` (by the hypervisor and interrupts, None where nobody can
    tell; then it is part of `ran_ns`) + the wait: `behind_others_ns` + `behind_self_ns` + `throttled_ns` (by its own
    limit or an ancestor's) + `idle_ns` (the CPU was idle: placement, wake-up) + `unknown_ns` (nobody is known).
    `held_back_ns` of `behind_others_ns` was behind those that had more CPU time for their weight meanwhile; the rest is
    its fair share of waiting. `throttling`: whether the kernel told at each wait, or its limits' counters of the same
    second (then `behind_others_ns` is an upper bound), or nobody.

    `cause` is what most of the wait is, `little` below 1 % of the time; of waiting behind others: `others` if it was
    held back by them, `several` if that was little and behind many, else its `fair-share`. `waits` is how many there
    were. `bursts` are times of much waiting without a break, `time_ranges` those of most of it, `cpus` from ticks
    only, else empty.
    """

    container: Container
    time_ns: int
    ran_ns: int
    stolen_ns: int | None
    behind_others_ns: int
    held_back_ns: int
    behind_self_ns: int
    throttled_ns: int
    idle_ns: int
    unknown_ns: int
    throttling: Throttling
    waits: int
    cause: WaitCause
    holders: list[WaitHolder]
    bursts: Bursts | None
    time_ranges: list[TimeRange]
    cpus: list[CpuWait]

    @property
    def wait_ns(self) -> int:
        """All of the wait."""
        return (
            self.behind_others_ns + self.behind_self_ns + self.throttled_ns + self.idle_ns + self.unknown_ns
        )  # fmt: skip


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What something cost a container, in time of its tasks, and as a share of the time in which it was there.

    `waiting` for a CPU behind `by`, of those that were held back; `throttling` by its own limit (no `by`); and
    `cache`: CPU time that it would not have needed without `by`, an estimate.
    """

    container: Container
    kind: CostKind
    by: Container | None
    time_ns: int
    share_of_time: float


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """`command` proves or refutes on their node that `suspect` slows `victim` down, by pausing it for moments."""

    victim: Container
    suspect: Container
    command: str


class CpuUser(msgspec.Struct, frozen=True, kw_only=True):
    """Who had how much of a node's CPU time while somebody waited for a CPU."""

    container: Container
    share_of_node: float


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """What a container used in all, and what is known of its waiting; the busiest first.

    `cpi` and `misses_per_kilo_instruction` are None without counters. Shares of time: `throttled_share` in which it
    was throttled, `cpu_pressure_share`, … in which some of its tasks waited. `cpu_users` had most of the CPU time while
    its tasks waited for a CPU, it itself too; only of those that waited much.
    """

    container: Container
    cpu_time_ns: int
    cpu_share_of_node: float
    cpi: float | None
    misses_per_kilo_instruction: float | None
    other_explanations: list[Explanation]
    cpu_users: list[CpuUser]


class LatencyBeside(msgspec.Struct, frozen=True, kw_only=True):
    """A service's latencies in windows in which `container` was in its way, and in those in which it was not.

    `how`: it waited much behind it for a CPU (`waiting`), or it lost cycles to it in caches and that one missed the LLC
    much (`cache`). `quantile` (0.99, of few values 0.9) is `during` in these windows and `otherwise` in the others, in
    the metric's unit; `rise` is their difference. `verdict`: `rose` where that is beyond doubt and at least a fifth,
    `no` where it is not, `unknown` where there are too few values; then the others are None.
    """

    container: Container
    how: Literal["waiting", "cache"]
    verdict: Literal["rose", "no", "unknown"]
    quantile: float | None
    during: float | None
    otherwise: float | None
    rise: Estimate | None
    values_during: float
    values_otherwise: float


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """What a service measured itself (`--ingest`) under one `name`: timers in ms, else in a unit that it alone knows.

    `values` is how many there were, those included that were not sent as of a sample rate. `waited_share` is what its
    tasks waited for a CPU as a share of the time, None where that was not recorded; `beside` are those that it waited
    behind most, and those that it lost cycles to.
    """

    container: Container
    name: str
    kind: str
    values: float
    p50: float
    p99: float
    waited_share: float | None
    beside: list[LatencyBeside]


class Caveat(msgspec.Struct, frozen=True, kw_only=True):
    """What could have hidden something, or bears on how sure one can be. `id` is stable, `text` for people."""

    id: str
    text: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `headline` is the finding in words, one sentence a line, the most important first.

    From `start` to `end` `recorded_seconds` were recorded, without pauses between runs and within them. Shares of time
    are of what was recorded.

    `pairs_tested` is how many victims and suspects were looked at together. `victims` are ranked by cycles lost.
    `time_spent` is empty where no waits were recorded, else by what each waited because of others or of its limit.
    `costs` has waiting and caches in one list, the most time first; `experiments` prove or refute them, where the
    suspect can be paused.
    `joint` are losses to several that cannot be told apart, `untold` is what cannot be told; a loss of
    `detectable_share` in any other pair would have been found, None where that is not known.
    `latencies` are what services measured themselves, empty where nothing was ingested.
    """

    command: Literal["report"] = "report"
    version: int = FINDINGS_VERSION
    basis: Basis
    start: Moment
    end: Moment
    recorded_seconds: float
    nodes: list[str]
    headline: list[str]
    costs: list[Cost] = []
    experiments: list[Experiment] = []
    time_spent: list[TimeSpent] = []
    victims: list[Victim]
    activity: list[Activity]
    containers_examined: int
    pairs_tested: int
    joint: list[Joint] = []
    untold: list[Untold] = []
    detectable_share: float | None = None
    latencies: list[Latency] = []
    caveats: list[Caveat]
