# SPDX-License-Identifier: Apache-2.0
"""`tracer export --perfetto`, read back with Perfetto's own definition of its format."""

import sys
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace
from perfetto_reader import Read, read_trace
from planted_recording import START_NS, frame, write_recording
from planted_recording import container as container_of
from planted_waits import MS, Load, tables_of
from recording_examples import write_rows
from store_examples import new_store
from test_manifest import example_manifest

from tracer.analysis.perfetto import export, export_perfetto
from tracer.analysis.perfetto.events import MEASURED, CounterEvents, slices
from tracer.analysis.recording import open_recording
from tracer.cli.main import main
from tracer.errors import OutputError
from tracer.simulate import simulate
from tracer.simulate.scenarios import build_scenario
from tracer.simulate.shape import NodeShape
from tracer.store.manifest import Instant
from tracer.store.schemas import TABLES

SECOND_NS = 10**9
TICK_NS = 1_000_000
NAMESPACED = pl.concat_str("namespace", "pod_name", separator="/")
HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202e\x00 " + "long" * 3000


def integral(points: list[tuple[int, float]]) -> float:
    """Of a counter's steps, over seconds. The last value must be 0."""
    assert points[-1][1] == 0
    return sum(value * (later - time) / SECOND_NS for (time, value), (later, _) in pairwise(points))


def rows(directory: Path, table: str) -> pl.DataFrame:
    return pl.read_parquet(directory / table / "**" / "*.parquet", hive_partitioning=False)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("recorded")
    simulate("cache-thrash", seed=2, duration_ns=2_345_000_000, output=output, ticks=True)
    return output


@pytest.fixture(scope="module")
def without_ticks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("without_ticks")
    simulate("lost-counters", seed=2, duration_ns=5 * SECOND_NS, output=output)
    return output


@pytest.fixture(scope="module")
def read(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Read:
    file = tmp_path_factory.mktemp("trace") / "t.pftrace"
    exported = export_perfetto(open_recording([recorded]), file)
    assert exported.bytes == file.stat().st_size
    assert exported.packets == len(Trace.FromString(file.read_bytes()).packet)
    return read_trace(file)


def test_slices_are_the_cpu_time_of_the_ticks(recorded: Path, read: Read) -> None:
    ticks = rows(recorded, "ticks").filter(pl.col("pod_name").is_not_null())
    expected = {
        (f"CPU {cpu}", f"{pod}/{container}"): time
        for cpu, pod, container, time in ticks.group_by("cpu", NAMESPACED, "container_name")
        .agg(pl.sum("cpu_time_ns"))
        .rows()
    }
    found: dict[tuple[str, str], int] = defaultdict(int)
    annotated: dict[tuple[str, str], float] = defaultdict(int)
    for one in read.slices:
        assert one.track[0] == "CPUs"
        if "/" in one.name and one.name != "/":
            found[one.track[1], one.name] += one.end_ns - one.begin_ns
            annotated[one.track[1], one.name] += one.annotations["cpu_time_ns"]
    assert found == annotated == expected


def test_who_runs_on_is_one_slice(read: Read) -> None:
    assert max(one.end_ns - one.begin_ns for one in read.slices) > 3 * TICK_NS
    by_track = defaultdict(list)
    for one in sorted(read.slices, key=lambda one: one.begin_ns):
        by_track[one.track].append(one)
    assert len(by_track) == 8
    for on_cpu in by_track.values():
        for one, following in pairwise(on_cpu):
            assert one.end_ns <= following.begin_ns
            assert one.end_ns < following.begin_ns or one.name != following.name


def test_counters_are_those_of_the_ticks(recorded: Path, read: Read) -> None:
    ticks = rows(recorded, "ticks").filter(pl.col("pod_name").is_not_null())
    sums = ticks.group_by(NAMESPACED, "container_name").agg(pl.sum("cpu_time_ns", "instructions", "llc_misses"))
    for pod, container, cpu_time_ns, instructions, llc_misses in sums.rows():
        track = ("Containers", f"{pod}/{container}")
        assert integral(read.counters[*track, "CPU"]) == pytest.approx(cpu_time_ns / SECOND_NS)
        assert integral(read.counters[*track, "Instructions"]) == pytest.approx(instructions)
        assert integral(read.counters[*track, "LLC traffic"]) == pytest.approx(llc_misses * 64)
        assert read.units[*track, "CPI"] == "cycles per instruction"
    victim = ticks.filter(pl.col("pod_name") == "web-1").group_by("tick_start").agg(pl.sum("cycles", "instructions"))
    cpi = victim.filter(pl.col("instructions") > 0).select(pl.col("cycles") / pl.col("instructions"))["cycles"]
    assert {value for _, value in read.counters["Containers", "shop/web-1/app", "CPI"]} == set(cpi)


def test_time_is_utc(recorded: Path, read: Read) -> None:
    assert read.utc_minus_trace_ns == 0
    ticks = rows(recorded, "ticks").filter(pl.col("cgroup_id") != 0)
    starts = ticks["tick_start"].dt.epoch("ns")
    assert min(points[0][0] for points in read.counters.values()) == starts.min()
    assert max(points[-1][0] for points in read.counters.values()) == starts.max() + TICK_NS


def test_without_ticks_the_counters_are_those_of_the_windows(without_ticks: Path, tmp_path: Path) -> None:
    export_perfetto(open_recording([without_ticks]), tmp_path / "t")
    read = read_trace(tmp_path / "t")
    assert not read.slices
    windows = rows(without_ticks, "windows").filter(pl.col("pod_name").is_not_null())
    assert windows["llc_misses"].null_count() > 0
    for pod, container, cpu_time_ns in windows.group_by(NAMESPACED, "container_name").agg(pl.sum("cpu_time_ns")).rows():
        points = read.counters["Containers", f"{pod}/{container}", "CPU"]
        assert integral(points) == pytest.approx(cpu_time_ns / SECOND_NS)


def test_many_stretches_say_the_same_as_one(
    recorded: Path, read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_ROWS_AT_ONCE", 1)
    done: list[float] = []
    export_perfetto(open_recording([recorded]), tmp_path / "t", progress=done.append)
    assert len(done) > 20
    assert done == sorted(done)
    assert done[-1] == 1
    in_stretches = read_trace(tmp_path / "t")
    assert in_stretches.counters.keys() == read.counters.keys()

    def steps(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
        return [point for before, point in zip([(0, None), *points], points, strict=False) if point[1] != before[1]]

    for track, points in read.counters.items():
        assert steps(in_stretches.counters[track]) == steps(points)
    assert sum(one.end_ns - one.begin_ns for one in in_stretches.slices) == sum(
        one.end_ns - one.begin_ns for one in read.slices
    )


def test_runs_with_and_without_ticks_days_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_ROWS_AT_ONCE", 3_000)
    start = datetime(2026, 1, 5, 14, tzinfo=UTC)
    for after, ticks in ((timedelta(0), False), (timedelta(seconds=3, milliseconds=7), True), (timedelta(3), False)):
        simulate("quiet", seed=1, duration_ns=2 * SECOND_NS, output=tmp_path, ticks=ticks, start=start + after)
    taken: list[int] = []
    monkeypatch.setattr(export, "slices", lambda ticks: taken.append(len(ticks)) or slices(ticks))
    export_perfetto(open_recording([tmp_path]), tmp_path / "t")
    read = read_trace(tmp_path / "t")
    assert 1 < max(taken) < 6_000
    windows = rows(tmp_path, "windows").filter(pl.col("pod_name") == "web-1")
    # What the windows of all runs say, none of them twice.
    assert integral(read.counters["Containers", "shop/web-1/app", "CPU"]) == pytest.approx(
        windows["cpu_time_ns"].sum() / SECOND_NS
    )


def test_a_part_of_it(recorded: Path, read: Read, tmp_path: Path) -> None:
    recording = open_recording(
        [recorded], since="2026-01-05T14:00:01Z", until="2026-01-05T14:00:01.5Z", container="shop/web-1/app"
    )
    export_perfetto(recording, tmp_path / "t")
    part = read_trace(tmp_path / "t")
    assert {one.name for one in part.slices} == {"shop/web-1/app"}
    assert {track[1] for track in part.counters} == {"shop/web-1/app"}
    start = 1_767_621_600 * SECOND_NS
    assert min(one.begin_ns for one in part.slices) >= start + SECOND_NS
    assert max(one.end_ns for one in part.slices) <= start + 3 * SECOND_NS // 2
    # Where it is with all others around it.
    inner = {(one.track, one.begin_ns, one.end_ns) for one in part.slices if one.end_ns < start + 1_499_000_000}
    assert len(inner - {(one.track, one.begin_ns, one.end_ns) for one in read.slices}) <= 8


def test_several_nodes_and_hostile_names(tmp_path: Path) -> None:
    shape = NodeShape(cpus=4, llc_domains=1)
    scenario = build_scenario("cache-thrash", shape=shape, seed=1, containers=6)
    first, *others = scenario.containers
    hostile = msgspec.structs.replace(first, pod=HOSTILE)
    scenario = msgspec.structs.replace(scenario, containers=[hostile, *others], planted=[])
    directories = []
    for node in ("node-1", "node-2"):
        directories.append(tmp_path / node)
        simulate(
            scenario, seed=1, duration_ns=SECOND_NS, output=directories[-1], ticks=True, shape=shape, node_name=node
        )
    export_perfetto(open_recording(directories), tmp_path / "t")
    read = read_trace(tmp_path / "t")
    assert {track[0] for track in read.counters} == {"Containers of node-1", "Containers of node-2"}
    assert {one.track[0] for one in read.slices} == {"CPUs of node-1", "CPUs of node-2"}
    names = {name for track in read.counters for name in track} | {one.name for one in read.slices}
    assert any(name.startswith("shop/<img src=x onerror=alert(1)>\\x1b[31m\\u202e\\x00") for name in names)
    assert all(name.isprintable() and len(name) <= 200 for name in names)


MILLISECONDS = st.integers(0, 20)


@st.composite
def ticks_of_two_cpus(draw: Callable[..., Any]) -> pl.DataFrame:
    """Ticks of 100 ns that are full, or have no row at all."""
    drawn = []
    for tick in draw(st.lists(MILLISECONDS, unique=True)):
        for cpu in (0, 1):
            times = draw(st.lists(st.integers(0, 40), max_size=5))
            given_out = [time for index, time in enumerate(times) if sum(times[: index + 1]) <= 100]
            for cgroup_id, time in [*enumerate(given_out, 1), (0, 100 - sum(given_out))]:
                drawn.append(("n", cgroup_id, tick * 100, 100, time, None, None, None, None, 64, cpu))
    return pl.DataFrame(drawn, schema={**MEASURED, "cpu": pl.UInt16}, orient="row")


@given(ticks_of_two_cpus())
def test_slices_fill_their_ticks_and_nothing_else(ticks: pl.DataFrame) -> None:
    laid = slices(ticks)
    assert (laid["end_ns"] - laid["begin_ns"] == laid["cpu_time_ns"].cast(pl.Int64)).all()
    assert (laid["cgroup_id"] != 0).all()
    used = defaultdict(int)
    for cpu in (0, 1):
        on_cpu = laid.filter(pl.col("cpu") == cpu).sort("begin_ns")
        for (_, _, _, end, *_), (_, _, _, begin, *_) in pairwise(on_cpu.rows()):
            assert end <= begin
        for cgroup_id, begin, end in on_cpu.select("cgroup_id", "begin_ns", "end_ns").rows():
            for tick in range(begin // 100, -(-end // 100)):
                used[cpu, tick * 100, cgroup_id] += min(end, tick * 100 + 100) - max(begin, tick * 100)
    ran = ticks.filter(pl.col("cgroup_id") != 0, pl.col("cpu_time_ns") > 0)
    assert used == {(cpu, time, cgroup): ns for cpu, time, cgroup, ns in ran.select(
        "cpu", "time_ns", "cgroup_id", "cpu_time_ns"
    ).rows()}  # fmt: skip


def test_what_was_not_counted_has_no_value() -> None:
    rows_without_counters = pl.DataFrame(
        [("n", 7, 0, TICK_NS, 500, None, None, None, None, 64)], schema=MEASURED, orient="row"
    )
    counters = CounterEvents()
    events = pl.concat([counters.take(rows_without_counters, TICK_NS), counters.finish()])
    assert events.rows() == [(0, "n", 7, 0, 0.0005), (TICK_NS, "n", 7, 0, 0.0)]


@pytest.mark.parametrize("table", ["windows", "ticks"])
def test_each_container_has_a_track_of_its_waiting(tmp_path: Path, table: str) -> None:
    etl, web = container_of(1, "etl", "batch-7"), container_of(2, "app", "web-1")
    tables = tables_of([Load(web, range(50), 10 * MS, {1: 20 * MS}), Load(etl, range(50), 40 * MS, {})])
    if table == "ticks":
        time = START_NS + np.arange(500) * MS
        given = {"node_name": "node-1", **web, "tick_start": time, "tick": time // MS, "wait_time_ns": 2 * MS}
        tables["ticks"] = [frame(TABLES["ticks"], 500, given)]
    export_perfetto(open_recording([write_recording(tmp_path / "recording", **tables)]), tmp_path / "t")
    read = read_trace(tmp_path / "t")
    waiting = read.counters["Containers", "shop/web-1/app", "Waiting for a CPU"]
    assert read.units["Containers", "shop/web-1/app", "Waiting for a CPU"] == "tasks"
    assert waiting[0] == (START_NS, 2.0 if table == "ticks" else pytest.approx(1 / 3))
    # Ticks are there for the first half second, and windows that begin after them.
    assert integral(waiting) == pytest.approx(1.0 + 41 * 0.02 if table == "ticks" else 1.0)


def test_a_file_that_cannot_be_written_stays_as_it_was(recorded: Path, tmp_path: Path) -> None:
    recording = open_recording([recorded])
    with pytest.raises(OutputError, match="No such file"):
        export_perfetto(recording, tmp_path / "no" / "t")
    (tmp_path / "directory").mkdir()
    with pytest.raises(OutputError, match="directory"):
        export_perfetto(recording, tmp_path / "directory")
    with pytest.raises(OutputError, match="cannot write"):
        export_perfetto(recording, tmp_path / "nul\0")
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """`tracer export` in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["tracer", "export", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command(
    without_ticks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, "--perfetto", tmp_path / "t", without_ticks, "--namespace", "shop") == 0
    assert "packets" in capsys.readouterr().err
    assert read_trace(tmp_path / "t").counters
    for arguments, complaint, code in (
        ([without_ticks], "where to?", 2),
        (["--perfetto", tmp_path / "u"], "what to export", 2),
        (["--perfetto", tmp_path / "u", tmp_path / "none"], "none", 2),
        (["--perfetto", tmp_path / "u", without_ticks, "--since", "tomorrow"], "not a time", 2),
        (
            ["--perfetto", tmp_path / "u", without_ticks, "--container", "nobody"],
            "no container is called 'nobody'; there are",
            2,
        ),
        (["--perfetto", "/proc/t", without_ticks], "cannot write", 4),
    ):
        assert run_command(monkeypatch, *arguments) == code
        said = capsys.readouterr().err
        assert complaint in said
        assert len(said.splitlines()) == 1
    assert not (tmp_path / "u").exists()


def test_a_window_that_begins_before_its_run_has_the_ticks_of_the_run(tmp_path: Path) -> None:
    run_id = UUID("0123abcd-4567-489a-8bcd-ef0123456789")
    start = datetime(2026, 1, 5, 14, tzinfo=UTC)
    each = timedelta(milliseconds=600)
    rows = [
        {"window_start": start + number * each, "window_tick": 60 * number, "cgroup_id": 7, "cpu_time_ns": 3 * 10**8}
        for number in range(3)
    ]
    write_rows(tmp_path, "windows", rows, run_id=run_id)
    began = Instant.of(int(start.timestamp()) * SECOND_NS + 5 * 10**8)
    host = msgspec.structs.replace(example_manifest().host, node_name="node-1")
    manifest = example_manifest(run_id=run_id, start=began, tick_ns=10**7, window_ticks=60, host=host)
    new_store(tmp_path, run_id=run_id).write_manifest(manifest)
    export_perfetto(open_recording([tmp_path]), tmp_path / "t")
    (points,) = (points for track, points in read_trace(tmp_path / "t").counters.items() if track[2] == "CPU")
    assert [value for _time, value in points] == [0.5, 0]


@pytest.mark.parametrize("at_once", [50, 200_000])
def test_waiting_has_a_counter_for_each_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    web, etl, quiet = container_of(1, "app", "web-1"), container_of(2, "etl", "batch-7"), container_of(3, "db", "db-1")
    windows = [*range(100), *range(150, 200)]
    loads = [
        Load(web, windows, 20 * MS, {2: 15 * MS, 3: MS // 10, "idle": 5 * MS, "self": 5 * MS}),
        Load(etl, range(200), 30 * MS, {1: 12 * MS}),
        Load(quiet, range(200), 5 * MS, {}),
    ]
    monkeypatch.setattr(export, "_ROWS_AT_ONCE", at_once)
    recording = open_recording([write_recording(tmp_path / "recording", **tables_of(loads))])
    export_perfetto(recording, tmp_path / "t.pftrace")
    read = read_trace(tmp_path / "t.pftrace")
    behind = {track[1:]: points for track, points in read.counters.items() if track[-1].startswith("Waiting behind")}
    assert set(behind) == {
        ("shop/web-1/app", "Waiting behind shop/batch-7/etl"),
        ("shop/batch-7/etl", "Waiting behind shop/web-1/app"),
    }
    points = behind["shop/web-1/app", "Waiting behind shop/batch-7/etl"]
    assert integral(points) == pytest.approx(150 * 0.015)
    assert {value for _time, value in points} == {0, 0.25}
    assert [time for time, value in points if value == 0] == [START_NS + end * 60 * MS for end in (100, 200)]
    assert read.units["Containers", "shop/web-1/app", "Waiting behind shop/batch-7/etl"] == "tasks"


def test_the_kernels_threads_come_last(tmp_path: Path) -> None:
    root = {"cgroup_id": 1, "cgroup_kind": "other", "cgroup_path": "/"}
    loads = [Load(root, range(10), 20 * MS, {2: MS}), Load(container_of(2), range(10), 20 * MS, {1: 15 * MS})]
    recording = open_recording([write_recording(tmp_path / "recording", **tables_of(loads))])
    export_perfetto(recording, tmp_path / "t.pftrace")
    packets = Trace.FromString((tmp_path / "t.pftrace").read_bytes()).packet
    ranks = {one.track_descriptor.name: one.track_descriptor.sibling_order_rank for one in packets}
    assert ranks["/"] > ranks["shop/pod-2/app"]
