# SPDX-License-Identifier: Apache-2.0
"""The examples in the documentation, run as they stand there."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from examples import AS_OF, ENGINES, FILES, Rows, beside, by_second, run

from tracer.simulate import simulate

LayOut = Callable[[Path], None]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nodes on two days, with pods of the names in the examples."""
    output = tmp_path_factory.mktemp("simulated")
    for day, node in ((5, "0042"), (6, "42")):
        simulate("cache-thrash", seed=day, duration_ns=4 * 10**9, output=output, containers=8, node_name=node,
                 start=datetime(2026, 1, day, tzinfo=UTC))  # fmt: skip
    return output


@pytest.fixture(scope="module")
def truth(simulated: Path) -> Rows:
    """What the examples are about, row by row."""
    cpu_ns: dict[tuple[Any, ...], int] = {}
    memory: dict[tuple[Any, ...], int] = {}
    for row in pl.read_parquet(simulated / "windows/**/*.parquet", hive_partitioning=False).iter_rows(named=True):
        if (row["pod_name"] or "").startswith("web"):
            second = row["window_start"].replace(microsecond=0)
            key = (row["node_name"], row["container_id"], row["pod_name"], second)
            cpu_ns[key] = cpu_ns.get(key, 0) + row["cpu_time_ns"]
    for row in pl.read_parquet(simulated / "resources/**/*.parquet", hive_partitioning=False).iter_rows(named=True):
        key = (row["node_name"], row["container_id"], row["time"].replace(microsecond=0))
        memory[key] = max(memory.get(key, 0), row["memory_current_bytes"])
    rows = [
        (*key, used / 1e9, memory[key[0], key[1], key[3]] / 2**20)
        for key, used in cpu_ns.items()
        if (key[0], key[1], key[3]) in memory
    ]
    return sorted(rows, key=lambda row: (row[0], row[2], row[3]))


def assert_answers(found: Rows, truth: Rows) -> None:
    assert [row[:4] for row in found] == [row[:4] for row in truth]
    for got, expected in zip(found, truth, strict=True):
        assert got[4:] == pytest.approx(expected[4:])


def test_there_is_an_example_for_each_engine() -> None:
    assert set(ENGINES) == {"Polars", "DuckDB", "pandas", "PyArrow", "Spark", "Iceberg"}


def test_the_question_has_an_answer(truth: Rows) -> None:
    assert {row[0] for row in truth} == {"0042", "42"}
    assert {row[2] for row in truth} >= {"web-1", "web-2"}
    assert len(truth) > 10
    assert len({row[3] for row in truth}) > 4


@pytest.mark.parametrize("engine", ["Polars", "DuckDB", "pandas", "PyArrow"])
def test_each_engine_gives_the_same_answer(
    engine: str, simulated: Path, truth: Rows, lay_out: LayOut, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(simulated)
    assert_answers(by_second(engine), truth)
    assert "0042" in capsys.readouterr().out


@pytest.mark.usefixtures("spark")
def test_spark_gives_it_too(simulated: Path, truth: Rows, lay_out: LayOut, capsys: pytest.CaptureFixture[str]) -> None:
    lay_out(simulated)
    assert_answers(by_second("Spark"), truth)
    assert "|      0042|" in capsys.readouterr().out


# Of two pods and another; one before anything was recorded, one after it.
LATENCIES = [
    (datetime(2026, 1, 5, tzinfo=UTC) + timedelta(seconds=seconds), pod, 1.5 + number)
    for number, (seconds, pod) in enumerate(
        [(-1, "web-1"), (0.7301, "web-1"), (0.7302, "db-1"), (1.02, "web-2"), (2.345678, "web-1"), (9, "web-2")]
    )
]


@pytest.fixture(scope="module")
def truth_beside(simulated: Path) -> Rows:
    """What the examples of as-of joins are about, row by row."""
    waited: dict[tuple[str, datetime], float] = {}
    memory: dict[tuple[str, datetime], float] = {}
    for row in pl.read_parquet(simulated / "windows/**/*.parquet", hive_partitioning=False).iter_rows(named=True):
        key = (row["pod_name"] or "", row["window_start"])
        waited[key] = waited.get(key, 0) + row["wait_time_ns"] / 1e6
    for row in pl.read_parquet(simulated / "resources/**/*.parquet", hive_partitioning=False).iter_rows(named=True):
        key = (row["pod_name"] or "", row["time"].replace(microsecond=0))
        memory[key] = memory.get(key, 0) + (row["memory_current_bytes"] or 0) / 2**20

    def last(of: dict[tuple[str, datetime], float], pod: str, time: datetime) -> float | None:
        before = [start for name, start in of if name == pod and start <= time]
        return of[pod, max(before)] if before else None

    return [
        (time, pod, latency, last(waited, pod, time), last(memory, pod, time))
        for time, pod, latency in LATENCIES
        if pod.startswith("web")
    ]


def put_latencies(desk: Path) -> None:
    lines = [f"{time:%Y-%m-%dT%H:%M:%S.%f}Z,{pod},{latency}" for time, pod, latency in LATENCIES]
    (desk / "latencies.csv").write_text("\n".join(["time,pod_name,latency_ms", *lines]) + "\n")


def assert_beside(found: Rows, truth: Rows) -> None:
    assert any(row[3] for row in truth)
    assert truth[0][3:] == (None, None)
    assert [row[:3] for row in found] == [row[:3] for row in truth]
    for got, expected in zip(found, truth, strict=True):
        for value, true in zip(got[3:], expected[3:], strict=True):
            assert value == (None if true is None else pytest.approx(true))


def test_some_engines_have_an_as_of_join() -> None:
    assert set(AS_OF) == {"Polars", "DuckDB", "pandas", "Spark"}


@pytest.mark.parametrize("engine", ["Polars", "DuckDB", "pandas"])
def test_latencies_stand_beside_waiting_and_memory(
    engine: str, simulated: Path, truth_beside: Rows, lay_out: LayOut, desk: Path
) -> None:
    lay_out(simulated)
    put_latencies(desk)
    assert_beside(beside(engine), truth_beside)


@pytest.mark.usefixtures("spark")
def test_latencies_stand_beside_in_spark_too(simulated: Path, truth_beside: Rows, lay_out: LayOut, desk: Path) -> None:
    lay_out(simulated)
    put_latencies(desk)
    assert_beside(beside("Spark"), truth_beside)


def test_the_files_become_tables_of_iceberg(
    simulated: Path, lay_out: LayOut, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(simulated)
    names = run(ENGINES["Iceberg"])
    found = names["windows"].scan(row_filter="pod_name LIKE 'web%'").to_arrow()
    assert set(found["pod_name"].to_pylist()) >= {"web-1", "web-2"}
    assert set(found["node_name"].to_pylist()) == {"0042", "42"}
    assert "cpu_time_ns: int64" in capsys.readouterr().out
    names["catalog"].close()
    (desk / "catalog.db").unlink()


def test_the_snippet_on_files_tells_nodes_apart_and_filters_by_name(simulated: Path, lay_out: LayOut) -> None:
    lay_out(simulated)
    windows = run(FILES)["windows"]
    assert set(windows.collect()["identifier"]) == {"0042", "42"}
    web = windows.filter(pl.col("pod_name").str.starts_with("web")).collect()
    assert set(web["pod_name"]) >= {"web-1", "web-2"}
    assert web["pod_name"].str.starts_with("web").all()
    a_day = windows.filter(pl.col("dt") == datetime(2026, 1, 6, tzinfo=UTC).date()).collect()
    assert set(a_day["identifier"]) == {"42"}


def test_windows_and_ticks_join_exactly_by_time(tmp_path: Path) -> None:
    simulate("quiet", seed=1, duration_ns=10**9, output=tmp_path, containers=6, ticks=True)
    windows, ticks = (f"'{tmp_path}/{table}/*/*/*.parquet'" for table in ("windows", "ticks"))
    query = f"""
        SELECT count(*), count(tick), count(*) FILTER (tick = window_tick)
        FROM (SELECT DISTINCT window_start, window_tick FROM {windows}) AS windows
        LEFT JOIN (SELECT DISTINCT tick_start, tick FROM {ticks}) AS ticks ON tick_start = window_start
    """
    assert duckdb.sql(query).fetchall() == [(17, 17, 17)]
