# SPDX-License-Identifier: Apache-2.0
"""What version 1 of the schema left behind stays readable, alone and beside what is written today."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from question_scripts import SCRIPTS
from version_1 import as_version_1, rewrite_as_version_1, unpack

from tracer.analysis.rates import rates
from tracer.analysis.recording import Span, open_recording, polars_schema
from tracer.cli.main import main
from tracer.simulate import simulate
from tracer.store.manifest import read_manifest
from tracer.store.schemas import TABLES

# The guest was slow: its last rows of some tables came after those of its windows.
ALWAYS = Span(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What version 1 itself wrote."""
    return unpack(tmp_path_factory.mktemp("version-1"))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two runs of a node, on two days: as they are today, with the first as version 1 wrote it, and both so."""
    outputs = {name: tmp_path_factory.mktemp(name) for name in ("today", "mixed", "older")}
    for name, output in outputs.items():
        runs = [
            simulate(
                "cache-thrash",
                seed=day,
                duration_ns=15 * 10**9,
                output=output,
                containers=8,
                ticks=True,
                start=datetime(2026, 1, day, tzinfo=UTC),
            )
            for day in (5, 6)
        ]
        for run in runs[: {"today": 0, "mixed": 1, "older": 2}[name]]:
            rewrite_as_version_1(output, run.manifest.run_id)
    return outputs


def files_of(directory: Path) -> list[Path]:
    return sorted(directory.glob("*/dt=*/identifier=*/*.parquet"))


def as_of_today(name: str, value: Any) -> Any:
    """A value of a file of version 1 as its reader gets it."""
    if isinstance(value, dict):
        return {key: as_of_today("", one) for key, one in value.items()}
    if isinstance(value, int) and value > (2**31 - 1 if name == "pid" else 2**63 - 1):
        return value - 2**64 if name == "cgroup_id" else None
    return value


@pytest.mark.parametrize("what", ["kernel", "simulated", "made"])
@pytest.mark.parametrize("table", TABLES)
def test_files_that_version_1_wrote_have_their_values_in_the_types_of_today(table: str, what: str, old: Path) -> None:
    rows = open_recording([old / what]).scan(table, ALWAYS).collect()
    assert rows.schema == polars_schema(table)
    paths = sorted((old / what / table).glob("*/*/*.parquet"))
    assert rows.height == sum(pq.read_metadata(path).num_rows for path in paths)
    # What version 1 did not have.
    assert paths or table in ("waits", "external") or (what, table) in {
        ("kernel", "llc"), *(("simulated", name) for name in ("ticks", "io", "processes", "regions", "llc"))
    }  # fmt: skip
    for path in paths:
        written = pq.ParquetFile(path).read()
        for column in written.schema:
            values = written[column.name]
            if pa.types.is_timestamp(column.type):
                assert column.type.unit == "ns"
                expected: list[Any] = [value // 1000 for value in values.cast(pa.int64()).to_pylist()]
                assert rows[column.name].dt.epoch("us").to_list() == expected
            elif pa.types.is_map(column.type):
                expected = [None if value is None else as_of_today("", dict(value)) for value in values.to_pylist()]
                assert rows[column.name].to_list() == expected
            else:
                expected = [as_of_today(column.name, value) for value in values.to_pylist()]
                assert rows[column.name].to_list() == expected


def test_what_the_tests_take_for_version_1_is_what_it_wrote(old: Path) -> None:
    """So that other recordings can be rewritten as such, as they are below."""
    for what in ("kernel", "simulated", "made"):
        for path in files_of(old / what):
            table = path.relative_to(old / what).parts[0]
            written = pq.ParquetFile(path).read()
            today = TABLES[table].schema
            schema = pa.schema([today.field(name) for name in written.column_names])
            assert as_version_1(schema.empty_table()).schema.equals(written.schema)
            if what == "simulated":
                # Its times are whole microseconds.
                rows = (
                    open_recording([old / what]).scan(table, ALWAYS).collect().to_arrow().select(written.column_names)
                )
                assert as_version_1(rows.cast(schema)).to_pylist() == written.to_pylist()


def test_manifests_of_version_1_can_be_read(old: Path) -> None:
    for what, source in (("kernel", "kernel"), ("simulated", "simulation")):
        (path,) = (old / what).glob("runs/*/session.json")
        manifest = read_manifest(path)
        assert (manifest.schema_version, manifest.source, manifest.status) == (1, source, "finished")


def order_of(table: str) -> list[str]:
    """A victim's holders in a window are in no order."""
    holder = [name for name in TABLES[table].schema.names if name.startswith("holder_cgroup_")]
    return [*TABLES[table].sort_columns, *holder]


def test_versions_side_by_side_are_one_recording(recordings: dict[str, Path]) -> None:
    by_output = {}
    for name, output in recordings.items():
        recording = open_recording([output])
        assert [manifest.schema_version for manifest in recording.manifests] == {
            "today": [2, 2], "mixed": [1, 2], "older": [1, 1],
        }[name]  # fmt: skip
        by_output[name] = {
            table: recording.collect(recording.scan(table)).sort(order_of(table), maintain_order=True)
            for table in TABLES
        }
    for table in TABLES:
        assert by_output["mixed"][table].equals(by_output["today"][table]), table
        assert by_output["older"][table].equals(by_output["today"][table]), table
    assert by_output["mixed"]["windows"].height > 1000


def test_a_part_of_the_time_is_the_same_rows_in_all_versions(recordings: dict[str, Path]) -> None:
    heights = set()
    for output in recordings.values():
        recording = open_recording([output], since="2026-01-05T00:00:07.123456Z", until="2026-01-06T00:00:03.000001Z")
        heights.add((recording.collect(recording.scan("windows")).height, recording.span, recording.has("ticks")))
    assert len(heights) == 1


def test_rates_go_on_across_versions(recordings: dict[str, Path]) -> None:
    found = []
    for output in recordings.values():
        recording = open_recording([output])
        rows = rates(recording.scan("resources"), ["cpu_usage_usec", "memory_pgscan"])
        found.append(recording.collect(rows).sort("time", "cgroup_id"))
    assert found[0]["cpu_usage_usec_per_second"].drop_nulls().len() > 100
    assert found[1].equals(found[0])
    assert found[2].equals(found[0])


Run = Callable[..., str]


def rounded(value: Any) -> Any:
    """To 6 digits: sums of floats depend on the order of rows."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command, which must end well; what it says."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["tracer", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert ended.value.code == 0, said.err
        return said.out

    return run


def test_commands_say_the_same_of_all_versions(recordings: dict[str, Path], tracer: Run, tmp_path: Path) -> None:
    def said(output: Path) -> tuple[Any, ...]:
        trace = tmp_path / "trace"
        tracer("export", "--perfetto", trace, output, "--until", "2026-01-05T00:00:03Z")
        picture = tmp_path / "picture.svg"
        tracer("plot", output, "--kind", "heatmap", "--output", picture)
        report = json.loads(tracer("report", "--json", output))
        assert report["victims"]
        comparison = json.loads(tracer("compare", "--json", f"{output}@..2026-01-06", f"{output}@2026-01-06.."))
        return trace.read_bytes(), picture.read_text(), rounded(report), rounded(comparison["workloads"])

    today, mixed, older = map(said, recordings.values())
    assert mixed == today
    assert older == today


def test_commands_read_what_version_1_recorded_of_a_real_node(old: Path, tracer: Run, tmp_path: Path) -> None:
    output = old / "kernel"
    assert "node-1" in json.dumps(json.loads(tracer("report", "--json", output)))
    assert json.loads(tracer("compare", "--json", output, output))
    tracer("plot", output, "--kind", "heatmap", "--output", tmp_path / "heatmap.png")
    tracer("export", "--perfetto", tmp_path / "trace", output)
    assert (tmp_path / "trace").stat().st_size > 5_000


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_scripts_say_the_same_of_all_versions(script: Path, recordings: dict[str, Path]) -> None:
    said = []
    for output in recordings.values():
        done = subprocess.run([sys.executable, script, output], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.replace(str(output), "DIR"))
    assert said[1] == said[0]
    assert said[2] == said[0]
