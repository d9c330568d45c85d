# SPDX-License-Identifier: Apache-2.0
"""The physical machine: that each of its parts does what it does in a real one, and that its truth is what it says."""

from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from tracer.errors import UsageError
from tracer.simulate import simulate
from tracer.simulate.physical.node import PhysicalNode, Sums
from tracer.simulate.physical.plan import TICK_NS
from tracer.simulate.physical.scenarios import PHYSICAL_SCENARIOS, build_physical
from tracer.simulate.physical.truth import PhysicalTruth
from tracer.simulate.physical.workload import Bursts, Call, Machine, PhysicalScenario, Work, Workload
from tracer.simulate.scenario import Container
from tracer.simulate.shape import NodeShape
from tracer.simulate.truth import truth_path
from tracer.store.manifest import read_manifest

MIB = 2**20
SEED = 5
PERIOD_MS, BURST_MS = 120, 10


def container(pod: str, threads: int = 1) -> Container:
    return Container(name="app", pod=pod, threads=threads)


def service(pod: str, **changes: object) -> Workload:
    """One at a third of a CPU."""
    made = Workload(container=container(pod), requests_per_s=400, request_instructions=1.5e6)
    return msgspec.structs.replace(made, **changes)


def busy(pod: str, threads: int = 1, **changes: object) -> Workload:
    """Computes without end, and touches no memory."""
    made = Workload(
        container=container(pod, threads), always=True, job=Work(accesses=0.0), hot_bytes=2**16, warm_bytes=2**16,
        noise=0.0, phases=0.0,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def stream(pod: str, threads: int = 1, **changes: object) -> Workload:
    """Reads through memory without end."""
    return busy(pod, threads, **{"job": Work(core_cpi=0.6, accesses=0.04, hot=0.0, warm=0.0), **changes})


def node(
    *workloads: Workload, cpus: int = 4, llc_domains: int = 1, smt: bool = False, ticks: int = 5_000, **machine: object
) -> PhysicalNode:
    scenario = PhysicalScenario(
        name="test",
        shape=NodeShape(cpus=cpus, llc_domains=llc_domains, smt=smt),
        machine=msgspec.structs.replace(Machine(llc_bytes=8 * MIB, all_cores_ghz=3.4), **machine),
        workloads=workloads,
    )
    return PhysicalNode(scenario, seed=SEED, ticks=ticks)


def cpi(sums: Sums, index: int = 0) -> float:
    return float(sums.cycles[index] / sums.instructions[index])


def by_ms_since_burst(set_bytes: float, *, traffic: bool = True, scans: bool = False) -> tuple[np.ndarray, float]:
    """Time per access to so much memory, relative to long after a burst, by ms; and the share of all extra time that
    comes after the burst. As in a run on hardware: 10 ms each 120 ms. There is a cache of 6 MiB for both; 1 MiB stays
    in the core's own. With `scans` the accesses go through the memory in a circle.
    """
    beyond = max(0.0, set_bytes - MIB)
    chase = Work(core_cpi=12, accesses=beyond / set_bytes, hot=0, warm=1, overlap=1)
    reads = Work(core_cpi=0.6, accesses=0.008 if traffic else 0.0, hot=0, warm=0)
    made = node(
        busy("chase", job=chase, warm_bytes=max(beyond, 4096.0), scans=scans),
        stream("stream", job=reads, always=False, bursts=Bursts(lengths=(BURST_MS, BURST_MS), period=PERIOD_MS)),
        cpus=2, llc_bytes=6 * MIB, llc_ns=30, memory_ns=130, random_share=0.3, ticks=PERIOD_MS * 50,
    )  # fmt: skip
    rows = np.concatenate(
        [
            np.stack([block.tick, block.container, block.slots["time_ns"], block.instructions], axis=1)
            for block in made.blocks()
        ]
    )
    begin = rows[rows[:, 1] == 1, 0].min()
    rows = rows[(rows[:, 1] == 0) & (rows[:, 0] >= begin + 10 * PERIOD_MS)]
    place = (rows[:, 0] - begin) % PERIOD_MS
    ns, accesses = (np.bincount(place, rows[:, column], PERIOD_MS) for column in (2, 3))
    each = ns / accesses
    base = each[PERIOD_MS - 30 :].mean()
    extra = np.maximum((each - base) * accesses, 0)
    # A burst that is slowed down by the chase itself ends a little later.
    return each / base, float(extra[BURST_MS + 1 :].sum() / max(extra.sum(), 1e-9))


def test_harm_to_what_just_fits_the_cache_grows_through_a_burst_and_stays_after_it() -> None:
    """Measured on hardware, for sets near what the cache holds: 61-84 % of the extra time after the burst, for 20 ms
    and more. Here it is a little less, and shorter.
    """
    for set_bytes in (5 * MIB, 6 * MIB):
        relative, after = by_ms_since_burst(set_bytes)
        assert (np.diff(relative[:BURST_MS]) > 0).all()
        assert relative[BURST_MS - 1] > 1.15
        assert relative[BURST_MS + 4] > 1.1 * relative[BURST_MS + 18] > 1.1
        assert 0.45 < after < 0.9


def test_what_the_private_caches_hold_and_what_does_not_fit_are_harmed_during_the_burst_alone() -> None:
    for set_bytes in (1.0 * MIB, 16 * MIB):
        relative, after = by_ms_since_burst(set_bytes, scans=True)
        assert relative[BURST_MS + 3 : BURST_MS + 20] == pytest.approx(1.0, abs=0.02)
        assert after < 0.25 or relative.max() < 1.02


def test_a_burst_without_traffic_harms_nobody() -> None:
    relative, _after = by_ms_since_burst(5 * MIB, traffic=False)
    assert relative == pytest.approx(1.0, abs=0.01)


def test_memory_is_wider_than_a_cache_and_below_its_knee_costs_nothing() -> None:
    """Streams on the second cache, a chase that does not fit the first one."""
    victim = busy("victim", job=Work(accesses=0.02, hot=0, warm=0.0, stream_overlap=2))
    loss = {}
    for controllers, rate in ((1, 60.0), (1, 6.0), (2, 6.0)):
        made = node(
            victim, stream("stream", threads=2, domains=(1,)), cpus=4, llc_domains=2,
            memory_bytes_per_ns=rate, llcs_per_controller=3 - controllers,
        )  # fmt: skip
        loss[controllers, rate] = 1 - cpi(made.again((1,))) / cpi(made.again())
    assert loss[1, 6.0] > 0.15
    assert loss[1, 60.0] < 0.03
    assert abs(loss[2, 6.0]) < 0.001


def test_memory_never_brings_more_than_it_can() -> None:
    made = node(stream("stream", threads=4), memory_bytes_per_ns=4.0)
    sums = made.again()
    written = 1 + Work().written
    assert 3.2 < sums.misses[0] * 64 * written / (5_000 * TICK_NS) <= 4.0


def test_a_sibling_costs_and_the_clock_falls_with_busy_cores() -> None:
    two = [busy("one", smt_cost=1.5), busy("other", smt_cost=1.5)]
    assert cpi(node(*two, cpus=2, smt=True).again()) == pytest.approx(1.5 * cpi(node(*two, cpus=2).again()), rel=0.02)
    alone, all_busy = (
        node(busy("one"), *more, cpus=4, all_cores_ghz=2.4).again() for more in ([], [busy("others", 3)])
    )
    ghz = [sums.cycles[0] / sums.cpu_time_ns[0] for sums in (alone, all_busy)]
    assert ghz[1] == pytest.approx(2.4, rel=0.02)
    assert ghz[0] > 3.0


def test_a_pause_makes_private_caches_cold_only_if_others_used_them() -> None:
    rarely = service("rarely", requests_per_s=30, request_instructions=3e5, hot_bytes=MIB / 2, warm_bytes=MIB / 4)
    for others, is_cold in (([], False), ([service("other", requests_per_s=900, warm_bytes=4 * MIB)], True)):
        made = node(rarely, *others, cpus=2, l2_bytes=MIB // 2)
        made = node(rarely, *others, cpus=1, l2_bytes=MIB // 2) if others else made
        cost = 1 - cpi(made.again(pauses=False)) / cpi(made.again())
        assert (cost > 0.02) == is_cold


def test_work_queues_and_is_carried_over() -> None:
    """Whatever slows a service down, it does all it was asked to."""
    made = node(service("one"), stream("stream", threads=2), busy("busy", threads=2), cpus=2, smt=True, ticks=20_000)
    alone, beside = made.again((1, 2)), made.again()
    assert beside.cycles[0] > 1.1 * alone.cycles[0]
    assert beside.instructions[0] == pytest.approx(alone.instructions[0], rel=0.001)


def test_requests_fan_out_also_of_those_who_are_gone() -> None:
    front = service("front", heavy_share=0.1, calls=[Call(to="default/back/app", ordinary=0.1, heavy=0.5)])
    made = node(front, service("back", requests_per_s=0.0))
    sums, without = made.again(), made.again((0,))
    assert without.instructions[0] == 0
    assert sums.instructions[1] > 0.1 * sums.instructions[0]
    assert without.instructions[1] == pytest.approx(sums.instructions[1], rel=0.01)


def test_who_is_gone_changes_nobody_elses_requests() -> None:
    made = node(*(service(f"s-{number}") for number in range(3)), ticks=20_000)
    sums, without = made.again(), made.again((1,))
    assert without.instructions[[0, 2]] == pytest.approx(sums.instructions[[0, 2]], rel=0.001)


def rows(output: Path, table: str) -> pl.DataFrame:
    return pl.read_parquet(output / table / "**" / "*.parquet", hive_partitioning=False)


def test_a_recording_keeps_every_ns_and_its_truth_is_the_run_again_without_one(tmp_path: Path) -> None:
    run = simulate(
        "cache-bursts", machine="physical", seed=SEED, duration_ns=4 * 10**9, output=tmp_path, ticks=True, containers=6
    )
    ticks = rows(tmp_path, "ticks")
    assert (ticks.group_by("tick", "cpu").agg(pl.sum("cpu_time_ns"))["cpu_time_ns"] == TICK_NS).all()
    (path,) = tmp_path.glob("runs/*/session.json")
    manifest = read_manifest(path)
    assert manifest.source == "simulation"
    assert manifest.topology is not None
    assert manifest.topology["numa_nodes"]
    truth = msgspec.json.decode(truth_path(tmp_path, run.manifest.run_id).read_bytes(), type=PhysicalTruth)
    assert truth == run.truth
    used = ticks.group_by("cgroup_id").agg(pl.sum("cpu_time_ns", "cycles", "instructions"))
    by_id = {row["cgroup_id"]: row for row in used.to_dicts()}
    for told in truth.containers:
        row = by_id[told.cgroup_id]
        assert (told.cpu_time_ns, told.cycles, told.instructions) == (
            row["cpu_time_ns"], row["cycles"], row["instructions"],
        )  # fmt: skip

    scenario = build_physical("cache-bursts", shape=NodeShape(), seed=SEED, containers=6)
    again = PhysicalNode(scenario, seed=SEED, ticks=4_000)
    labels = [container.label for container in truth.containers]
    victim = next(victim for victim in truth.victims if victim.label == "shop/shop-0/app")
    (told_of,) = [one for one in victim.aggressors if one.planted]
    place, job = labels.index(victim.label), labels.index("jobs/batch-7/job")
    without = cpi(again.again((job,)), place)
    assert told_of.lost_share == pytest.approx(1 - without / cpi(again.again(), place), abs=1e-5)
    assert told_of.lost_cycles == pytest.approx(told_of.lost_share * victim.cycles, abs=victim.cycles * 1e-5)


def test_the_same_seed_gives_the_same_tables(tmp_path: Path) -> None:
    runs = [
        simulate("fan-out", machine="physical", seed=seed, duration_ns=2 * 10**9, output=tmp_path / str(number))
        for number, seed in enumerate((1, 1, 2))
    ]
    assert runs[0].truth == runs[1].truth
    assert rows(tmp_path / "0", "windows").equals(rows(tmp_path / "1", "windows"))
    assert runs[0].manifest.run_id == runs[1].manifest.run_id != runs[2].manifest.run_id


@pytest.mark.parametrize("name", PHYSICAL_SCENARIOS)
def test_every_scenario_runs_on_small_and_on_large_nodes(name: str) -> None:
    for shape, containers in ((NodeShape(), 8), (NodeShape(cpus=64, llc_domains=4), 200), (NodeShape(cpus=4), 6)):
        scenario = build_physical(name, shape=shape, seed=SEED, containers=containers)
        made = PhysicalNode(scenario, seed=SEED, ticks=300)
        sums = made.again()
        assert np.isfinite(sums.cycles).all()
        assert 0 < sums.cpu_time_ns.sum() <= 300 * TICK_NS * shape.cpus * (1 + 1e-9)
        labels = {workload.container.label for workload in scenario.workloads}
        assert labels >= {*scenario.planted, *(label for group in scenario.together for label in group)}


def test_who_finds_no_room_waits_and_is_told_behind_whom(tmp_path: Path) -> None:
    """Three that never stop on two CPUs, one of them with two threads; nobody waits where each has a CPU."""
    for cpus in (2, 4):
        scenario = PhysicalScenario(
            name="test",
            shape=NodeShape(cpus=cpus, llc_domains=1, smt=False),
            machine=Machine(llc_bytes=8 * MIB),
            workloads=[busy("one", 2), busy("two"), busy("three")],
            planted=["three/app"],
        )
        run = simulate(scenario, seed=SEED, duration_ns=2 * 10**9, output=tmp_path / str(cpus), ticks=True)
        assert isinstance(run.truth, PhysicalTruth)
        told = {waiting.label: waiting for waiting in run.truth.waiting}
        windows, ticks = (rows(tmp_path / str(cpus), table) for table in ("windows", "ticks"))
        waited_ns = sum(waiting.wait_time_ns for waiting in told.values())
        assert windows["wait_time_ns"].sum() == ticks["wait_time_ns"].sum() == waited_ns
        if cpus == 4:
            assert waited_ns == 0
            assert not (tmp_path / "4" / "waits").exists()
            continue
        assert rows(tmp_path / "2", "waits")["wait_time_ns"].sum() == waited_ns
        # Four threads are ready all the time, and two run.
        assert waited_ns == pytest.approx(4 * 10**9, rel=0.01)
        for waiting in told.values():
            behind = sum(holder.wait_time_ns for holder in waiting.behind)
            assert behind + waiting.behind_self_ns == waiting.wait_time_ns > 0.4 * 10**9
            assert {holder.planted for holder in waiting.behind if holder.label == "three/app"} <= {True}
            of_victim = windows.filter(pl.col("cgroup_id") == waiting.cgroup_id)
            assert of_victim["wait_behind_others_ns"].sum() == pytest.approx(behind, abs=0.01 * waited_ns)
            assert of_victim["wait_behind_self_ns"].sum() == pytest.approx(waiting.behind_self_ns, abs=0.01 * waited_ns)


def test_groups_that_act_together_have_a_joint_loss(tmp_path: Path) -> None:
    run = simulate("two-at-once", machine="physical", seed=3, duration_ns=3 * 10**9, output=tmp_path, containers=6)
    assert isinstance(run.truth, PhysicalTruth)
    victim = next(victim for victim in run.truth.victims if victim.label == "shop/shop-0/app")
    (group,) = victim.groups
    alone = {one.label: one.lost_share for one in victim.aggressors}
    assert group.labels == ["jobs/batch-7/job", "jobs/batch-3/job"]
    assert group.lost_share >= max(alone[label] for label in group.labels) - 0.01


def test_many_containers_are_left_out_together_beyond_the_largest(tmp_path: Path) -> None:
    run = simulate("quiet", machine="physical", seed=1, duration_ns=10**9, output=tmp_path, containers=40)
    assert isinstance(run.truth, PhysicalTruth)
    told = [victim.rest_lost_share for victim in run.truth.victims]
    assert any(share is not None for share in told)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    asked = {"seed": 1, "duration_ns": 10**9, "output": tmp_path}
    with pytest.raises(UsageError, match=r"no machine .*; there are formula, physical"):
        simulate("quiet", machine="quantum", **asked)
    with pytest.raises(UsageError, match="no scenario 'cache-thrash'"):
        simulate("cache-thrash", machine="physical", **asked)
    with pytest.raises(UsageError, match="each LLC domain needs two CPUs"):
        simulate("quiet", machine="physical", shape=NodeShape(cpus=2, llc_domains=2, smt=False), **asked)
