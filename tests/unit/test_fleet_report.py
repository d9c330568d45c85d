# SPDX-License-Identifier: Apache-2.0
"""`tracer fleet report` on nodes of which it is known who waits behind whom, and who is slow."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from fleet_examples import NEW, OLD, WINDOWS, write_fleet, write_node
from json_answers import answer_of
from planted_waits import MS
from typer.testing import CliRunner

from tracer.analysis.engines import get_engine
from tracer.analysis.fleet.report import fleet_report
from tracer.analysis.fleet.results import FleetReport
from tracer.analysis.fleet.sources import open_source
from tracer.cli.main import app
from tracer.errors import UsageError
from tracer.naming import Selector

WEB, ETL = "shop/web/app", "jobs/batch/etl"


def ask(*directories: Path, engine: str = "polars", container: str | None = None, **options: Any) -> FleetReport:
    top = options.pop("top", 10)
    source = open_source([str(directory) for directory in directories], **options)
    return fleet_report(source, get_engine(engine), top=top, containers=Selector([container] if container else ()))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fleet(
        tmp_path_factory.mktemp("fleet"), node_1={"waits_ms": 30}, node_2={"waits_ms": 0}, node_3={"cpi": 1.5}
    )


def test_losses_are_by_workload_over_all_nodes(fleet: Path) -> None:
    report = ask(fleet)
    first = report.lost_to[0]
    # The second replica waits behind the first one, which is another container and the same workload.
    assert {(one.victim, one.aggressor) for one in report.lost_to} == {(WEB, ETL), (ETL, WEB), (WEB, WEB)}
    assert (first.victim, first.aggressor) == (WEB, ETL)
    assert first.lost_ns == (6 * 6 + 30) * MS * WINDOWS == first.held_back_ns
    assert (first.nodes_found, first.nodes_together) == (7, 8)
    assert (first.worst_node, first.worst_node_lost_ns) == ("node-1", 30 * MS * WINDOWS)
    assert report.lost_waiting_ns == sum(one.lost_ns for one in report.lost_to)
    assert sum(one.share_of_lost for one in report.lost_to) == pytest.approx(1)
    # On each node the two replicas ran 40 ms a window and waited for 2 ms and for what is planted.
    assert first.share_of_time == pytest.approx(66 / (8 * 42 + 66))


def test_who_waits_behind_those_that_have_less_is_not_held_back(fleet: Path) -> None:
    by_pair = {(one.victim, one.aggressor): one for one in ask(fleet).lost_to}
    assert by_pair[ETL, WEB].lost_ns == 8 * 2 * MS * WINDOWS
    assert by_pair[ETL, WEB].held_back_ns == 0


def test_a_node_is_held_against_those_with_the_same_processor(fleet: Path) -> None:
    report = ask(fleet)
    assert report.nodes_by_model == {OLD: 6, NEW: 2}
    assert {(one.workload, one.cpu_model, one.nodes, one.cpi, one.outliers) for one in report.cpi} == {
        (WEB, OLD, 6, 1.0, 1), (WEB, NEW, 2, 1.0, 0), (ETL, OLD, 6, 2.0, 0), (ETL, NEW, 2, 2.0, 0),
    }  # fmt: skip
    (outlier,) = report.outliers
    assert (outlier.node_name, outlier.workload, outlier.cpi, outlier.median_cpi) == ("node-3", WEB, 1.5, 1.0)
    # Two replicas with 20 ms a window, a third of which they would not have needed.
    assert outlier.excess_ns == pytest.approx(2 * 20 * MS * WINDOWS / 3)


def test_the_nodes_with_the_largest_share_lost_come_first(fleet: Path) -> None:
    first, second, *others = ask(fleet).look_at_first
    assert (first.node_name, first.victim, first.aggressor) == ("node-1", WEB, ETL)
    assert first.recorded_cpu_ns == 2 * 60 * MS * WINDOWS
    assert first.share_of_time == pytest.approx(30 / 120)
    assert (second.node_name, second.slow_workload) == ("node-3", WEB)
    assert "node-2" not in {one.node_name for one in others}


def test_duckdb_says_the_same(fleet: Path) -> None:
    polars, duckdb = ask(fleet), ask(fleet, engine="duckdb")
    assert msgspec.structs.replace(duckdb, engine="polars") == polars


def test_times_and_nodes_leave_out_the_rest(tmp_path: Path) -> None:
    for number in (1, 2):
        write_node(tmp_path, number)
        write_node(tmp_path, number, first_window=1000)
    whole = ask(tmp_path)
    half = ask(tmp_path, since="+10s")
    one = ask(tmp_path, nodes=["node-2"])
    assert (whole.nodes, half.nodes, one.nodes) == (2, 2, 1)
    assert whole.recorded_cpu_ns == 2 * half.recorded_cpu_ns == 2 * one.recorded_cpu_ns
    for engine in ("polars", "duckdb"):
        assert ask(tmp_path, since="+0.6s", until="+0.66s", engine=engine).recorded_cpu_ns == 2 * 120 * MS
    with pytest.raises(UsageError, match="nothing is recorded of node-3; there are node-1, node-2"):
        ask(tmp_path, nodes=["node-3"])


def test_whom_it_is_about(fleet: Path) -> None:
    report = ask(fleet, container="etl")
    assert {(one.victim, one.aggressor) for one in report.lost_to} == {(ETL, WEB)}
    assert {one.workload for one in report.cpi} == {ETL}
    with pytest.raises(UsageError, match="no container is called 'nobody'"):
        ask(fleet, container="nobody")


def test_what_was_not_measured_is_said_and_not_zero(tmp_path: Path) -> None:
    write_node(tmp_path, 1, model=None, counters=False)
    assert ask(tmp_path).notes == ["no node counted cycles and instructions: nothing is said of CPI"]
    write_node(tmp_path, 2, model=None)
    assert "of 2 nodes the processor is not known: their CPI is not compared" in ask(tmp_path).notes
    without = tmp_path / "without"
    without.mkdir()
    (without / "windows").symlink_to(tmp_path / "windows")
    assert ask(without).lost_to == []


@pytest.mark.parametrize("columns", ["80", "60"])
def test_the_text_fits(fleet: Path, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    result = CliRunner().invoke(app, ["fleet", "report", str(fleet), "--top", "2"])
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= int(columns)
    for text in ("8 nodes", WEB, "7/8", "node-1", "and 1 more", OLD):
        assert text in result.stdout


def test_json_is_what_its_schema_says(fleet: Path) -> None:
    result = CliRunner().invoke(app, ["fleet", "report", str(fleet), "--json", "--engine", "duckdb"])
    assert answer_of("fleet-report", result.stdout)["engine"] == "duckdb"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/nowhere"], "cannot read '/nowhere'"),
        ([".", "--engine", "pandas"], "no engine 'pandas'"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["fleet", "report", *arguments])
    assert isinstance(result.exception, UsageError)
    assert said in str(result.exception)
