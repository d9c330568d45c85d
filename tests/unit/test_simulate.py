# SPDX-License-Identifier: Apache-2.0
"""Simulated recordings: the same each time, conserving time, and told of truly."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from tracer.cli.main import main
from tracer.errors import UsageError
from tracer.simulate import CACHE_SCENARIOS, SCENARIOS, SimulatedRun, simulate
from tracer.simulate.neighbours import Neighbours
from tracer.simulate.physical.scenarios import PHYSICAL_SCENARIOS
from tracer.simulate.scenario import Scenario
from tracer.simulate.scenarios import build_scenario
from tracer.simulate.shape import NodeShape
from tracer.simulate.truth import Truth, truth_path
from tracer.store.layout import manifest_path
from tracer.store.manifest import read_manifest
from tracer.store.schemas import TABLES

TICK_NS = 1_000_000
SECOND_NS = 10**9
SEED = 3


def rows(output: Path, table: str) -> pl.DataFrame:
    """All rows of a table."""
    return pl.read_parquet(output / table / "**" / "*.parquet", hive_partitioning=False)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SimulatedRun]:
    output = tmp_path_factory.mktemp("simulated")
    return output, simulate("cache-thrash", seed=SEED, duration_ns=7_530_000_000, output=output, ticks=True)


def test_it_is_an_ordinary_recording_that_says_it_is_simulated(recorded: tuple[Path, SimulatedRun]) -> None:
    output, run = recorded
    manifest = read_manifest(manifest_path(output, run.manifest.run_id))
    assert manifest.source == "simulation"
    assert manifest.status == "finished"
    assert manifest.totals.records_unaccounted == 0
    assert manifest.last_tick == manifest.first_tick + 7530 - 1
    assert manifest.end.utc_ns - manifest.start.utc_ns == 7_530_000_000
    for table in ("windows", "ticks", "waits", "resources", "lifecycle", "health"):
        (path,) = output.glob(f"{table}/dt=2026-01-05/identifier=simulated/*.parquet")
        assert pq.read_schema(path).equals(TABLES[table].schema)
        assert pq.read_metadata(path).num_rows == manifest.totals.rows[table] > 0


def test_each_cpu_is_accounted_for_to_the_nanosecond(recorded: tuple[Path, SimulatedRun]) -> None:
    output, _run = recorded
    times = rows(output, "ticks").group_by("tick", "cpu").agg(pl.sum("cpu_time_ns"))
    assert (times["cpu_time_ns"] == TICK_NS).all()
    by_window = rows(output, "windows").group_by("window_tick", "ticks").agg(pl.sum("cpu_time_ns"))
    assert (by_window["cpu_time_ns"] == by_window["ticks"].cast(pl.UInt64) * TICK_NS * 8).all()


def test_windows_are_the_sums_of_ticks(recorded: tuple[Path, SimulatedRun]) -> None:
    output, _run = recorded
    sums = ["cpu_time_ns", "cycles", "instructions", "llc_misses"]
    key = ["window_tick", "cgroup_id"]
    of_ticks = (
        rows(output, "ticks")
        .filter(pl.col("cgroup_id") != 0)
        .group_by((pl.col("tick") // 60 * 60).alias("window_tick"), "cgroup_id")
        .agg(pl.sum(*sums))
    )
    windows = rows(output, "windows").filter(pl.col("cgroup_id") != 0).select(key + sums)
    assert windows.sort(key).equals(of_ticks.sort(key))


def test_the_truth_is_what_the_ticks_add_up_to(recorded: tuple[Path, SimulatedRun]) -> None:
    output, run = recorded
    truth = msgspec.json.decode(truth_path(output, run.manifest.run_id).read_bytes(), type=Truth)
    assert truth == run.truth
    used = rows(output, "ticks").group_by("cgroup_id").agg(pl.sum("cpu_time_ns", "cycles", "instructions"))
    by_id = {row["cgroup_id"]: row for row in used.to_dicts()}
    for container in truth.containers:
        row = by_id[container.cgroup_id]
        assert (container.cpu_time_ns, container.cycles, container.instructions) == (
            row["cpu_time_ns"], row["cycles"], row["instructions"],
        )  # fmt: skip
    names = rows(output, "ticks").select("container_id", "namespace", "pod_name", "container_name").unique().rows()
    for container in truth.containers:
        if container.container_id is not None:
            assert (container.container_id, *container.label.split("/")) in names


def test_the_same_seed_gives_the_same_tables(recorded: tuple[Path, SimulatedRun], tmp_path: Path) -> None:
    output, run = recorded
    again = simulate("cache-thrash", seed=SEED, duration_ns=7_530_000_000, output=tmp_path, ticks=True)
    assert again.manifest.run_id == run.manifest.run_id
    assert again.truth == run.truth
    for table in run.manifest.totals.rows:
        # The order of one victim's holders in a window is nobody's promise.
        order = [] if table != "waits" else ["window_start", "cgroup_id", "holder_cgroup_id", "wait_time_ns"]
        ours, theirs = (rows(directory, table) for directory in (tmp_path, output))
        assert ours.sort(order).equals(theirs.sort(order)) if order else ours.equals(theirs), table
    other = simulate("cache-thrash", seed=SEED + 1, duration_ns=7_530_000_000, output=tmp_path / "other")
    assert other.manifest.run_id != run.manifest.run_id
    assert other.truth.victims != run.truth.victims


def without(scenario: Scenario, label: str) -> Scenario:
    """The same, but that this container never gets to run."""
    return msgspec.structs.replace(
        scenario,
        containers=[
            msgspec.structs.replace(container, begin=1.0, end=1.0) if container.label == label else container
            for container in scenario.containers
        ],
    )


def test_what_is_lost_to_one_is_what_would_not_be_without_it() -> None:
    """Of a block in which all else stays as it was."""
    scenario = build_scenario("two-aggressors", shape=NodeShape(), seed=SEED, containers=6)
    threads = np.array([index for index, c in enumerate(scenario.containers) for _ in range(c.threads)])
    random = np.random.default_rng(SEED)
    shape = (200, len(threads))
    traffic, busy, alone = (random.uniform(0, most, shape) for most in (80e3, 1.0, 2e6))
    domain = np.array([container.domain for container in scenario.containers])[threads]
    cpu = 4 * domain + random.integers(0, 4, shape)
    meeting = Neighbours(scenario, NodeShape(), threads).meet(traffic, busy, cpu)
    for aggressor in range(len(scenario.containers)):
        others = threads != aggressor
        without = Neighbours(scenario, NodeShape(), threads).meet(traffic * others, busy * others, cpu)
        lost = np.bincount(threads, (alone * (meeting.factor - without.factor) * others).sum(axis=0))
        assert meeting.lost_to(aggressor, alone) == pytest.approx(lost, rel=1e-9, abs=1e-3)


@pytest.mark.parametrize("name", ["cache-thrash", "bandwidth", "delayed"])
def test_a_run_without_the_aggressor_does_without_the_lost_cycles(name: str, tmp_path: Path) -> None:
    """The same node again, without it: in each tick, the same instructions at that run's cycles per instruction.

    That is not quite the truth's question: nobody is late then, and the others' misses come at other times. The node
    has room for all, so that the threads are about where they were, and fuller ticks are no slower.
    """
    shape = NodeShape(cpus=16, llc_domains=1, smt=False)
    scenario = build_scenario(name, shape=shape, seed=SEED, containers=12)
    even = [msgspec.structs.replace(container, work_effect=0.0) for container in scenario.containers]
    scenario = msgspec.structs.replace(scenario, containers=even)
    truth = simulate(
        scenario, seed=SEED, duration_ns=10 * SECOND_NS, output=tmp_path / "with", ticks=True, shape=shape
    ).truth
    alone = without(scenario, "jobs/batch-7/etl")
    simulate(alone, seed=SEED, duration_ns=10 * SECOND_NS, output=tmp_path / "without", ticks=True, shape=shape)

    def by_tick(output: Path) -> pl.DataFrame:
        return rows(output, "ticks").group_by("tick", "cgroup_id").agg(pl.sum("cycles", "instructions"))

    joined = (
        by_tick(tmp_path / "with")
        .join(by_tick(tmp_path / "without"), on=["tick", "cgroup_id"], suffix="_without")
        .filter(pl.col("instructions") > 10_000, pl.col("instructions_without") > 10_000)
        .with_columns(
            lost=pl.col("cycles")
            - pl.col("cycles_without") / pl.col("instructions_without") * pl.col("instructions").cast(pl.Float64)
        )
        .group_by("cgroup_id")
        .agg(pl.sum("lost"))
    )
    lost = dict(joined.rows())
    victim = next(victim for victim in truth.victims if victim.label == "shop/web-1/app")
    (told,) = [aggressor for aggressor in victim.aggressors if aggressor.planted]
    assert victim.aggressors[0] == told
    assert told.label == "jobs/batch-7/etl"
    assert told.lost_share > 0.1
    assert lost[victim.cgroup_id] == pytest.approx(told.lost_cycles, rel=0.1)


def test_every_scenario_of_caches_harms_as_it_says(tmp_path: Path) -> None:
    for name in CACHE_SCENARIOS:
        truth = simulate(name, seed=11, duration_ns=10 * SECOND_NS, output=tmp_path / name).truth
        planted = {container.label for container in truth.containers if container.planted}
        shares = {
            (victim.label, aggressor.label): aggressor.lost_share
            for victim in truth.victims
            for aggressor in victim.aggressors
        }
        if name in ("quiet", "decoy"):
            assert not planted
            assert max(share for (victim, _), share in shares.items() if "/" in victim) < 0.03, name
        for aggressor in planted:
            assert shares["shop/web-1/app", aggressor] > 0.1, name


def of_victim_and_aggressor(output: Path) -> pl.DataFrame:
    """By tick: the CPI of shop/web-1/app, and the LLC misses of jobs/batch-7/etl."""
    ticks = rows(output, "ticks")

    def of(pod: str) -> pl.DataFrame:
        return ticks.filter(pl.col("pod_name") == pod).group_by("tick").agg(
            pl.sum("cycles", "instructions", "llc_misses")
        )  # fmt: skip

    return (
        of("web-1")
        .filter(pl.col("instructions") > 0)
        .select("tick", cpi=pl.col("cycles") / pl.col("instructions"))
        .join(of("batch-7").select("tick", misses="llc_misses"), on="tick", how="left")
        .fill_null(0)
    )


def test_a_delayed_effect_comes_as_late_as_the_truth_says(tmp_path: Path) -> None:
    for name in ("delayed", "cache-thrash"):
        run = simulate(name, seed=SEED, duration_ns=10 * SECOND_NS, output=tmp_path / name, ticks=True)
        aggressor = run.truth.victims[0].aggressors[0]
        assert aggressor.planted
        assert (aggressor.delay_ticks > 0) == (name == "delayed")
        both = of_victim_and_aggressor(tmp_path / name)
        misses = both.select(pl.col("tick"), "misses")
        correlations = [
            both.join(misses.with_columns(pl.col("tick") + lag), on="tick")
            .select(pl.corr("cpi", "misses_right"))
            .item()
            for lag in range(10)
        ]
        assert max(range(10), key=correlations.__getitem__) == aggressor.delay_ticks, correlations


def test_a_naive_correlation_blames_the_decoy(tmp_path: Path) -> None:
    run = simulate("decoy", seed=SEED, duration_ns=40 * SECOND_NS, output=tmp_path)
    correlations = (
        rows(tmp_path, "windows")
        .filter(pl.col("pod_name").is_not_null() & (pl.col("pod_name") != "batch-7"))
        .group_by("pod_name")
        .agg(correlation=pl.corr("cpi_median", "neighbour_llc_misses"))
    )
    assert correlations["correlation"].max() > 0.35
    harmed = [aggressor.lost_share for victim in run.truth.victims for aggressor in victim.aggressors]
    assert max(harmed) < 0.02


def test_counters_that_are_lost_are_scaled_up_or_null(tmp_path: Path) -> None:
    simulate("lost-counters", seed=SEED, duration_ns=10 * SECOND_NS, output=tmp_path / "lost", ticks=True)
    simulate("cache-thrash", seed=SEED, duration_ns=10 * SECOND_NS, output=tmp_path / "whole", ticks=True)
    windows = rows(tmp_path / "lost", "windows")
    # Two things come together: counters that take turns, and misses that could not be read of a fifth of the time.
    assert 0.4 < windows["counter_coverage"].median() < windows["counter_coverage"].max() < 0.95
    ticks = rows(tmp_path / "lost", "ticks")
    assert 0.02 < ticks["llc_misses"].is_null().mean() < 0.6
    assert ticks["cycles"].null_count() == 0
    assert (rows(tmp_path / "whole", "windows")["counter_coverage"] == 1).all()


def test_a_quota_shows_in_resources_and_costs_what_it_says(tmp_path: Path) -> None:
    run = simulate("throttled", seed=SEED, duration_ns=10 * SECOND_NS, output=tmp_path)
    resources = rows(tmp_path, "resources").filter(pl.col("pod_name") == "web-1").sort("time")
    victim = next(victim for victim in run.truth.victims if victim.label == "shop/web-1/app")
    last = resources.row(-1, named=True)
    (waiting,) = (waiting for waiting in run.truth.waiting if waiting.label == "shop/web-1/app")
    # Of one thread at least, of both at the most; waits that have not ended are in the kernel's sum only.
    assert 0.5 < last["cpu_throttled_usec"] * 1000 / waiting.throttled_ns < 1.1
    assert 10 < last["cpu_nr_throttled"] <= last["cpu_nr_periods"] <= 100
    assert last["cpu_usage_usec"] <= 100 * last["cpu_quota_usec"]
    assert victim.other_causes.throttling_cycles > 0
    others = rows(tmp_path, "resources").filter(pl.col("pod_name") != "web-1")
    assert others["cpu_throttled_usec"].sum() == 0
    usage = rows(tmp_path, "windows").filter(pl.col("pod_name") == "web-1")["cpu_time_ns"].sum()
    assert last["cpu_usage_usec"] == usage // 1000


def test_who_comes_and_goes_has_rows_of_its_life_only(recorded: tuple[Path, SimulatedRun]) -> None:
    output, run = recorded
    lifecycle = rows(output, "lifecycle")
    assert {"created", "named", "limits", "emptied", "removed"} <= set(lifecycle["event"])
    ticks = rows(output, "ticks").group_by("cgroup_id").agg(pl.min("tick").alias("first"), pl.max("tick").alias("last"))
    lives = {cgroup_id: (first, last) for cgroup_id, first, last in ticks.rows()}
    short = [container for container in run.truth.containers if container.begin_tick > run.truth.first_tick]
    assert len(short) == 2
    for container in short:
        first, last = lives[container.cgroup_id]
        assert container.begin_tick <= first < last < container.end_tick


def test_a_node_of_another_shape_and_name(tmp_path: Path) -> None:
    shape = NodeShape(cpus=3, llc_domains=1, smt=False)
    start = datetime(2026, 3, 1, 23, 59, 58, 7_001, tzinfo=UTC)
    run = simulate(
        "decoy", seed=1, duration_ns=4 * SECOND_NS, output=tmp_path, shape=shape, node_name="node-2", start=start
    )  # fmt: skip
    windows = rows(tmp_path, "windows")
    assert set(windows["node_name"]) == {"node-2"}
    assert windows["window_start"].min() == start
    assert sorted(path.name for path in (tmp_path / "windows").iterdir()) == ["dt=2026-03-01", "dt=2026-03-02"]
    assert all(victim.other_causes.smt_cycles == 0 for victim in run.truth.victims)
    assert rows(tmp_path, "windows")["cpus"].max() <= 3


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tracer.cli.main", "simulate", *arguments], capture_output=True, text=True, check=False
    )


def test_the_command(tmp_path: Path) -> None:
    done = command(str(tmp_path / "out"), "--scenario", "quiet", "--duration", "1s", "--cpus", "4", "--ticks")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "ticks").is_dir()
    assert Path(done.stderr.split("what happened: ")[1].strip()).is_file()
    listed = command("--list")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(SCENARIOS)
    listed = command("--list", "--machine", "physical")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(PHYSICAL_SCENARIOS)


@pytest.mark.parametrize(
    ("arguments", "complaint", "code"),
    [
        ([], "where to?", 2),
        (["OUT", "--scenario", "noisy\x1b[31m"], "no scenario", 2),
        (["OUT", "--duration", "0s"], "--duration", 2),
        (["OUT", "--duration", "1000d"], "--duration", 2),
        (["OUT", "--seed", "-1"], "--seed", 2),
        (["OUT", "--cpus", "0"], "--cpus", 2),
        (["OUT", "--cpus", "100000"], "--cpus", 2),
        (["OUT", "--cpus", "5"], "--no-smt", 2),
        (["OUT", "--cpus", "8", "--llc-domains", "3"], "--llc-domains", 2),
        (["OUT", "--containers", "2"], "--containers", 2),
        (["OUT", "--node", ""], "--node", 2),
        (["OUT", "--node", "x" * 300], "the identifier 'xxx", 2),
        (["OUT", "--start", "yesterday"], "not a time", 2),
        (["OUT", "--start", "1066-10-14"], "--start", 2),
        (["/proc/no/such", "--duration", "1s"], "cannot write", 4),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    arguments: list[str],
    complaint: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(tmp_path / "out") if argument == "OUT" else argument for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["tracer", "simulate", *given])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == code
    assert complaint in said
    assert len(said.strip().splitlines()) == 1
    assert "\x1b" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"domain": 2},
        {"delay_ticks": 17},
        {"threads": 0},
        {"name": "app", "pod": "web-2"},
        {"cpus": [7]},
        {"cpu_weight": 0},
        {"cpu_quota": 0.0},
    ],
)
def test_a_scenario_of_ones_own_that_cannot_be_is_refused(changes: dict[str, object], tmp_path: Path) -> None:
    scenario = build_scenario("quiet", shape=NodeShape(), seed=1, containers=6)
    first, *others = scenario.containers
    scenario = msgspec.structs.replace(scenario, containers=[msgspec.structs.replace(first, **changes), *others])
    with pytest.raises(UsageError, match="scenario: "):
        simulate(scenario, seed=1, duration_ns=SECOND_NS, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_seed_that_no_generator_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--seed"):
        simulate("quiet", seed=2**70, duration_ns=SECOND_NS, output=tmp_path)
