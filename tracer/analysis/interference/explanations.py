# SPDX-License-Identifier: Apache-2.0
"""What else slows containers down: what the kernel says of their waiting, and what the comparison held fixed.

The verdict is about how much of it there was, not about what it did: nobody can tell that from these figures alone.
"""

from collections.abc import Sequence, Set
from itertools import pairwise
from typing import NamedTuple

import polars as pl

from tracer.analysis.findings import Container, Explanation, ExplanationKind, Verdict
from tracer.analysis.recording import Recording
from tracer.analysis.wording import percent

_COUNTERS = (
    "cpu_nr_periods", "cpu_nr_throttled", "cpu_pressure_some_total_usec", "memory_pressure_some_total_usec",
    "io_pressure_some_total_usec", "memory_pgscan_direct", "memory_workingset_refault_anon",
    "memory_workingset_refault_file",
)  # fmt: skip


class Measured(NamedTuple):
    """What one value is called, from where on it is possible and likely that it matters, and how to say it."""

    kind: ExplanationKind
    possible_from: float
    likely_from: float
    text: str
    unknown: str


_THROTTLING = Measured(
    "throttling", 0.005, 0.05, "throttled by its CPU limit in {} of the periods", "no cpu.stat of its limit"
)
_CPU = Measured("cpu-pressure", 0.01, 0.10, "waited for a CPU in {} of the time (PSI)", "no cpu.pressure")
_MEMORY = Measured("memory-pressure", 0.01, 0.10, "waited for memory in {} of the time (PSI)", "no memory.pressure")
_IO = Measured("io-pressure", 0.01, 0.10, "waited for I/O in {} of the time (PSI)", "no io.pressure")
_RECLAIM = Measured("reclaim", 1.0, 100.0, "{} pages a second scanned for reclaim or fetched again", "no memory.stat")
_MIGRATION = Measured(
    "migration", 0.02, 0.10, "on another CPU than before in {} of its ticks", "only ticks tell (--ticks)"
)
_SMT = Measured(
    "smt", 0.01, 0.05, "{} of its cycles lost to whoever ran on the SMT sibling", "no SMT, or only ticks would tell"
)
_COLD = Measured("cold-cache", 0.01, 0.05, "{} of its cycles lost after pauses", "only ticks tell (--ticks)")
_STEAL = Measured("steal", 0.01, 0.05, "the hypervisor took {} of the node's CPU time", "no health table")


def explain(measured: Measured, value: float | None) -> Explanation:
    """How much of it there was, in words."""
    if value is None:
        return Explanation(kind=measured.kind, verdict="unknown", value=None, text=f"not measured: {measured.unknown}")
    verdict: Verdict = (
        "likely" if value >= measured.likely_from else "possible" if value >= measured.possible_from else "no"
    )
    shown = f"{value:,.0f}" if measured.kind == "reclaim" else percent(max(value, 0.0))
    return Explanation(kind=measured.kind, verdict=verdict, value=value, text=measured.text.format(shown))


class Waiting:
    """What the `resources` and `health` tables say about the waiting of some containers.

    Of nodes `with_waits` nothing of waiting for CPUs and of throttling, which is measured there.
    """

    def __init__(
        self, recording: Recording, containers: Sequence[Container], with_waits: Set[str] = frozenset()
    ) -> None:
        ids = pl.Series([number for container in containers for number in container.cgroup_ids], dtype=pl.Int64)
        self._with_waits = with_waits
        self._sums: dict[tuple[str, int], dict[str, float | None]] = {}
        if recording.has("resources") and len(ids):
            # The root's files speak of the whole node, not of what is in no other cgroup.
            not_the_root = pl.col("cgroup_path").ne_missing("/")
            rows = recording.scan("resources").filter(not_the_root, pl.col("cgroup_id").is_in(ids.unique().implode()))
            for row in recording.collect(_increases(rows, _pauses(recording))).iter_rows(named=True):
                self._sums[row["node_name"], row["cgroup_id"]] = row
        self._steal = _steal_by_node(recording)

    def explanations(self, container: Container) -> list[Explanation]:
        """Throttling, pressure, reclaim and stolen time."""
        seconds = self._sum(container, "seconds")

        def share(name: str) -> float | None:
            waited = self._sum(container, name)
            return None if waited is None or not seconds else min(waited / 1e6 / seconds, 1.0)

        throttled, periods = self._sum(container, "cpu_nr_throttled"), self._sum(container, "cpu_nr_periods")
        scanned = [self._sum(container, name) for name in _COUNTERS[-3:]]
        known = [value for value in scanned if value is not None]
        of_cpus = [
            explain(_THROTTLING, None if throttled is None or periods is None else throttled / max(periods, 1.0)),
            explain(_CPU, share("cpu_pressure_some_total_usec")),
        ]
        return [
            *([] if container.node_name in self._with_waits else of_cpus),
            explain(_MEMORY, share("memory_pressure_some_total_usec")),
            explain(_IO, share("io_pressure_some_total_usec")),
            explain(_RECLAIM, sum(known) / seconds if known and seconds else None),
            explain(_STEAL, self._steal.get(container.node_name)),
        ]

    def _sum(self, container: Container, name: str) -> float | None:
        """Over all its cgroups; None if none has a value."""
        values = [self._sums.get((container.node_name, number), {}).get(name) for number in container.cgroup_ids]
        known = [value for value in values if value is not None]
        return float(sum(known)) if known else None


def waited_for_cpus(explanations: Sequence[Explanation]) -> bool:
    """Whether the pressure on CPUs is likely to matter."""
    return any(one.kind == "cpu-pressure" and one.verdict == "likely" for one in explanations)


def explain_from_ticks(
    *, moved_share: float | None, sibling_share: float | None, cold_share: float | None
) -> list[Explanation]:
    """Migration, SMT and cold caches, as far as the comparison found them."""
    return [explain(_MIGRATION, moved_share), explain(_SMT, sibling_share), explain(_COLD, cold_share)]


def _pauses(recording: Recording) -> pl.DataFrame:
    """The middle of each pause of a node, in which nobody knows what the counters did: `node_name`, `pause`."""
    pauses = [
        (node, before.end + (after.start - before.end) / 2)
        for node in recording.nodes
        for before, after in pairwise(recording.recorded(node))
    ]
    schema: dict[str, pl.DataType] = {"node_name": pl.String(), "pause": pl.Datetime("us", "UTC")}
    return pl.DataFrame(pauses, schema=schema, orient="row").sort("pause").with_columns(part=pl.int_range(pl.len()))


def _increases(rows: pl.LazyFrame, pauses: pl.DataFrame) -> pl.LazyFrame:
    """By cgroup, how much each counter grew, and in how many seconds, without `pauses`; what began anew counts from
    there on.
    """
    growth = [
        pl.when(pl.col(name).count() > 1)
        .then(pl.col(name).sort_by("time").drop_nulls().diff().clip(lower_bound=0).sum())
        .cast(pl.Float64)
        .alias(name)
        for name in _COUNTERS
    ]
    seconds = (pl.max("time") - pl.min("time")).dt.total_nanoseconds() / 1e9
    parts = (
        rows.select("node_name", "cgroup_id", "time", *_COUNTERS)
        .sort("time")
        .join_asof(pauses.lazy(), left_on="time", right_on="pause", by="node_name", check_sortedness=False)
        .group_by("node_name", "cgroup_id", "part")
        .agg(*growth, seconds.alias("seconds"))
    )
    sums = [pl.when(pl.col(name).count() > 0).then(pl.col(name).sum()).alias(name) for name in (*_COUNTERS, "seconds")]
    return parts.group_by("node_name", "cgroup_id").agg(sums)


def _steal_by_node(recording: Recording) -> dict[str, float]:
    if not recording.has("health"):
        return {}
    capacity_ns = pl.col("online_cpus").cast(pl.Float64).sum() * 1e9
    stolen = recording.scan("health").group_by("node_name").agg((pl.sum("steal_time_ns") / capacity_ns).alias("share"))
    return {name: share for name, share in recording.collect(stolen).iter_rows() if share is not None}
