# SPDX-License-Identifier: Apache-2.0
"""Who waits for a CPU on a simulated node: rows that add up as a kernel's, and the truth that they come near."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from tracer.simulate import CPU_SCENARIOS, SCENARIOS, simulate
from tracer.simulate.shape import NodeShape
from tracer.simulate.truth import TrueContainer, Truth
from tracer.simulate.waiting import TrueWaiting
from tracer.store.manifest import Manifest

TICK_NS = 1_000_000
SECOND_NS = 10**9
SECONDS = 10
SEED = 5
VICTIM = "shop/web-1/app"
JOB = "jobs/batch-7/etl"


class Recorded(NamedTuple):
    """A simulated run: its tables and its truth."""

    output: Path
    truth: Truth
    manifest: Manifest

    def rows(self, table: str) -> pl.DataFrame:
        return pl.read_parquet(self.output / table / "**" / "*.parquet", hive_partitioning=False)

    def waiting(self, label: str) -> TrueWaiting:
        (waiting,) = (waiting for waiting in self.truth.waiting if waiting.label == label)
        return waiting

    def container(self, label: str) -> TrueContainer:
        (container,) = (container for container in self.truth.containers if container.label == label)
        return container

    def sums(self, label: str) -> dict[str, int]:
        """Of its rows of `windows`."""
        cgroup_id = self.container(label).cgroup_id
        return self.rows("windows").filter(pl.col("cgroup_id") == cgroup_id).select(pl.col(pl.Int64).sum()).row(
            0, named=True
        )  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Recorded]:
    """Makes each scenario once."""
    made: dict[str, Recorded] = {}

    def make(scenario: str) -> Recorded:
        if scenario not in made:
            output = tmp_path_factory.mktemp(scenario)
            run = simulate(scenario, seed=SEED, duration_ns=SECONDS * SECOND_NS, output=output, ticks=True)
            made[scenario] = Recorded(output, run.truth, run.manifest)
        return made[scenario]

    return make


@pytest.mark.parametrize("scenario", ["quiet", *CPU_SCENARIOS])
def test_each_cpu_is_accounted_for_to_the_nanosecond(recorded: Callable[[str], Recorded], scenario: str) -> None:
    ticks = recorded(scenario).rows("ticks")
    times = ticks.filter(pl.col("cpu_time_ns") > 0).group_by("tick", "cpu").agg(pl.sum("cpu_time_ns"))
    assert (times["cpu_time_ns"] == TICK_NS).all()
    windows = recorded(scenario).rows("windows").group_by("window_tick", "ticks").agg(pl.sum("cpu_time_ns"))
    sums = windows.group_by("window_tick").agg(pl.max("ticks"), pl.sum("cpu_time_ns"))
    assert (sums["cpu_time_ns"] == sums["ticks"] * TICK_NS * NodeShape().cpus).all()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_waits_by_holder_add_up_to_those_of_windows_ticks_and_truth(
    recorded: Callable[[str], Recorded], scenario: str
) -> None:
    run = recorded(scenario)
    key = ["window_tick", "cgroup_id"]
    windows = run.rows("windows").group_by(key).agg(pl.sum("wait_time_ns")).filter(pl.col("wait_time_ns") > 0)
    by_holder = run.rows("waits").group_by(key).agg(pl.sum("wait_time_ns"))
    assert by_holder.sort(key).equals(windows.sort(key))
    by_cgroup = dict(windows.group_by("cgroup_id").agg(pl.sum("wait_time_ns")).rows())
    assert by_cgroup == {waiting.cgroup_id: waiting.wait_time_ns for waiting in run.truth.waiting}
    assert run.manifest.totals.sums["wait_time_ns"] == sum(by_cgroup.values())
    of_ticks = run.rows("ticks").group_by("cgroup_id").agg(pl.sum("wait_time_ns")).filter(pl.col("wait_time_ns") > 0)
    assert dict(of_ticks.rows()) == by_cgroup
    for waiting in run.truth.waiting:
        parts = (waiting.behind_self_ns, waiting.throttled_ns, waiting.idle_ns)
        assert sum(holder.wait_time_ns for holder in waiting.behind) + sum(parts) == waiting.wait_time_ns
        order = [holder.wait_time_ns for holder in waiting.behind]
        assert order == sorted(order, reverse=True)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_parts_of_a_wait_are_those_of_the_truth(recorded: Callable[[str], Recorded], scenario: str) -> None:
    """Within a tick they are shared out in proportion; over a run they come near."""
    run = recorded(scenario)
    waiting, told = run.waiting(VICTIM), run.sums(VICTIM)
    allowed = 0.03 * waiting.wait_time_ns + 0.015 * SECONDS * SECOND_NS
    behind = sum(holder.wait_time_ns for holder in waiting.behind)
    assert told["wait_behind_others_ns"] == pytest.approx(behind, abs=allowed)
    assert told["wait_behind_self_ns"] == pytest.approx(waiting.behind_self_ns, abs=allowed)
    assert told["wait_throttled_ns"] == pytest.approx(waiting.throttled_ns, abs=allowed)
    assert told["wait_idle_ns"] == pytest.approx(waiting.idle_ns, abs=allowed)
    assert told["stolen_time_ns"] == run.container(VICTIM).stolen_ns
    if waiting.behind:
        largest = run.rows("waits").filter(
            pl.col("cgroup_id") == waiting.cgroup_id, pl.col("holder_cgroup_id") == waiting.behind[0].cgroup_id
        )
        assert largest["wait_time_ns"].sum() == pytest.approx(waiting.behind[0].wait_time_ns, abs=allowed)


def test_nobody_waits_much_where_there_is_room(recorded: Callable[[str], Recorded]) -> None:
    run = recorded("quiet")
    for waiting in run.truth.waiting:
        assert waiting.wait_time_ns < 0.1 * SECONDS * SECOND_NS, waiting.label
        assert waiting.throttled_ns == 0
    assert {container.stolen_ns for container in run.truth.containers} == {0}


@pytest.mark.parametrize("scenario", ["cpu-hog", "late-wakeups"])
def test_a_job_makes_a_service_wait_and_a_busier_one_elsewhere_does_not(
    recorded: Callable[[str], Recorded], scenario: str
) -> None:
    run = recorded(scenario)
    waiting = run.waiting(VICTIM)
    assert (waiting.behind[0].label, waiting.behind[0].planted) == (JOB, True)
    assert waiting.behind[0].wait_time_ns > 0.1 * SECONDS * SECOND_NS
    assert "jobs/batch-3/report" not in {holder.label for holder in waiting.behind}
    if scenario == "cpu-hog":
        assert run.container("jobs/batch-3/report").cpu_time_ns > 1.5 * run.container(JOB).cpu_time_ns
    else:
        # It wants little, gets it, and gets it late: several times as late as it runs.
        container = run.container(VICTIM)
        assert container.cpu_time_ns > 0.95 * container.wanted_ns
        assert waiting.wait_time_ns > 3 * container.cpu_time_ns


def test_a_containers_threads_wait_for_each_other(recorded: Callable[[str], Recorded]) -> None:
    waiting = recorded("own-threads").waiting(VICTIM)
    assert waiting.behind_self_ns > 0.9 * waiting.wait_time_ns > 0.1 * SECONDS * SECOND_NS


def test_a_quota_makes_wait(recorded: Callable[[str], Recorded]) -> None:
    run = recorded("throttled")
    waiting = run.waiting(VICTIM)
    assert waiting.throttled_ns > 0.9 * waiting.wait_time_ns > 0.1 * SECONDS * SECOND_NS
    assert all(other.throttled_ns == 0 for other in run.truth.waiting if other.label != VICTIM)
    throttled = run.rows("waits").filter(pl.col("holder_cgroup_kind") == "throttled")
    assert set(throttled["cgroup_id"]) == {waiting.cgroup_id}


def test_who_wants_more_gets_what_its_weight_says(recorded: Callable[[str], Recorded]) -> None:
    run = recorded("fair-share")
    wanting = [run.container(label) for label in (VICTIM, JOB, "jobs/batch-3/report")]
    weights = sum(container.cpu_weight for container in wanting)
    assert len({container.cpu_weight for container in wanting}) == 3
    for container in wanting:
        fair = container.cpu_weight / weights * SECONDS * SECOND_NS * NodeShape().cpus_of_domain
        assert container.cpu_time_ns == pytest.approx(fair, rel=0.02)
        assert container.wanted_ns > 1.5 * container.cpu_time_ns
        assert container.cpu_weight == run.rows("resources").filter(
            pl.col("cgroup_id") == container.cgroup_id
        )["cpu_weight"].max()  # fmt: skip
    assert not any(container.planted for container in run.truth.containers)


def test_stolen_time_is_cpu_time_in_which_nothing_is_done(recorded: Callable[[str], Recorded]) -> None:
    run = recorded("noisy-hypervisor")
    container, told = run.container(VICTIM), run.sums(VICTIM)
    assert 0.05 < container.stolen_ns / container.cpu_time_ns < 0.5
    assert container.cpu_time_ns - container.stolen_ns == pytest.approx(container.wanted_ns, rel=0.03)
    assert told["cycles"] == pytest.approx(3 * (container.cpu_time_ns - container.stolen_ns), rel=0.02)
    of_service = run.rows("resources").filter(pl.col("cgroup_id") == container.cgroup_id)
    assert of_service["cpu_usage_usec"].max() == (container.cpu_time_ns - container.stolen_ns) // 1000
    stolen_ns = sum(one.stolen_ns for one in run.truth.containers)
    assert run.rows("health")["steal_time_ns"].sum() == stolen_ns


def test_pressure_is_the_wait_as_long_as_no_two_threads_wait_at_once(recorded: Callable[[str], Recorded]) -> None:
    run = recorded("cpu-hog")
    waiting = run.waiting(VICTIM)
    of_victim = run.rows("resources").filter(pl.col("cgroup_id") == waiting.cgroup_id)
    stalled_ns = of_victim["cpu_pressure_some_total_usec"].max() * 1000
    assert 0.5 * waiting.wait_time_ns < stalled_ns <= 1.05 * waiting.wait_time_ns


@pytest.mark.parametrize("scenario", CPU_SCENARIOS)
@pytest.mark.parametrize(
    "shape", [NodeShape(cpus=1, llc_domains=1, smt=False), NodeShape(cpus=24, llc_domains=6)], ids=["one", "many"]
)
def test_every_scenario_fits_every_node(scenario: str, shape: NodeShape, tmp_path: Path) -> None:
    run = simulate(scenario, seed=SEED, duration_ns=2 * SECOND_NS, output=tmp_path, shape=shape)
    assert run.manifest.totals.records_unaccounted == 0
    told = Recorded(tmp_path, run.truth, run.manifest)
    windows = told.rows("windows")
    assert windows["cpu_time_ns"].sum() == 2 * SECOND_NS * shape.cpus
    assert windows["wait_time_ns"].sum() == sum(waiting.wait_time_ns for waiting in run.truth.waiting)
