# SPDX-License-Identifier: Apache-2.0
"""`tracer fleet compact`: each row once, whatever comes in between."""

from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow.parquet as pq
import pytest
from fleet_examples import write_fleet, write_node
from object_layout import lay_out_objects, write_period
from planted_recording import WINDOW_NS
from typer.testing import CliRunner

from tracer.analysis.engines import get_engine
from tracer.analysis.fleet.compacting import Compacted, compact
from tracer.analysis.fleet.report import fleet_report
from tracer.analysis.fleet.results import FleetReport
from tracer.analysis.fleet.sources import open_source
from tracer.analysis.objects.finding import find_periods
from tracer.analysis.objects.store import ObjectStore
from tracer.analysis.recording import polars_schema
from tracer.analysis.recording_names import open_named
from tracer.analysis.report import report
from tracer.cli.main import app
from tracer.errors import OutputError, UsageError
from tracer.naming import Selector
from tracer.store.compactions import COMPACTIONS, decode_compaction
from tracer.store.hours import parse_hour

pytest.importorskip("obstore")

SIZE = 2**28
HOUR_WINDOWS = 3_600 * 10**9 // WINDOW_NS


@pytest.fixture
def store(tmp_path: Path) -> Path:
    output = write_fleet(tmp_path / "output", node_1={"waits_ms": 30}, node_3={"cpi": 1.5})
    return lay_out_objects(output, tmp_path / "store")


def put_together(store: Path, to: Path, *, size: int = SIZE, delete: bool = False) -> list[Compacted]:
    found = find_periods(ObjectStore(f"file://{store}"), since="2026-11-22T00:00Z", compacted="no")
    return list(compact(found, ObjectStore(f"file://{to}", make=True), size=size, delete=delete))


def ask(store: Path, engine: str = "polars", **options: Any) -> FleetReport:
    return fleet_report(open_source([f"file://{store}"], **options), get_engine(engine), top=9, containers=Selector(()))


def all_rows(paths: list[Path], table: str) -> pl.DataFrame:
    columns = list(polars_schema(table))
    rows = pl.concat(pl.read_parquet(path, columns=columns, hive_partitioning=False, glob=False) for path in paths)
    return rows.sort(columns)


def rows_of(store: Path, table: str) -> pl.DataFrame:
    return all_rows(sorted(store.glob(f"{table}/*/*/*/*.parquet")), table)


def compacted_rows(to: Path, table: str) -> pl.DataFrame:
    """As the manifests name them."""
    files = []
    for path in to.glob(f"{COMPACTIONS}/*/*.json"):
        hour = parse_hour(f"{path.parent.name[3:]}T{path.stem[5:]}:00:00Z")
        files += [to / file.path for file in decode_compaction(path.read_bytes(), hour).files if file.table == table]
    return all_rows(files, table)


def test_each_row_is_there_once_and_the_answers_are_the_same(store: Path, tmp_path: Path) -> None:
    expected, node = ask(store), ask(store, nodes=["node-3"])
    to = tmp_path / "to"
    (hour,) = put_together(store, to)
    assert (hour.periods, hour.files_before, hour.files) == (8, 16, 2)
    for table in ("windows", "waits"):
        assert compacted_rows(to, table).equals(rows_of(store, table))
    for engine in ("polars", "duckdb"):
        assert msgspec.structs.replace(ask(to, engine), engine="polars") == expected
        assert msgspec.structs.replace(ask(to, engine, nodes=["node-3"]), engine="polars") == node


def test_of_whole_hours_the_sums_are_read_and_of_parts_the_rows(tmp_path: Path) -> None:
    for hour in range(3):
        for number in (1, 2):
            write_node(tmp_path / "output", number, first_window=hour * HOUR_WINDOWS, waits_ms=3 + hour + number)
    store = lay_out_objects(tmp_path / "output", tmp_path / "store")
    put_together(store, tmp_path / "to")
    url = f"file://{tmp_path / 'to'}"
    for since, until, whole, part in (
        ("14:00", "16:00", 2, 0), ("2026-11-22T14:00:01Z", None, 2, 1), ("2026-11-22T14:00:01Z", "16:00:01", 1, 2),
    ):  # fmt: skip
        source = open_source([url], since=since, until=until)
        assert (len(source.sums["cgroup_sums"]), len(source.files["windows"])) == (whole, part)
        expected = ask(store, since=since, until=until)
        for engine in ("polars", "duckdb"):
            assert msgspec.structs.replace(ask(tmp_path / "to", engine, since=since, until=until), engine="polars") == (
                expected
            )
    # The rows are not looked at then.
    for path in tmp_path.glob("to/compacted/w*/*/*/*.parquet"):
        path.unlink()
    assert ask(tmp_path / "to").nodes == 2


def test_files_are_sorted_by_node_and_time_and_say_whose_rows_they_have(store: Path, tmp_path: Path) -> None:
    put_together(store, tmp_path / "to")
    (path,) = tmp_path.glob("to/compacted/windows/*/*/*.parquet")
    rows = pl.read_parquet(path, hive_partitioning=False)
    assert rows.equals(rows.sort("node_name", "window_start", maintain_order=True))
    assert (rows["identifier"] == rows["node_name"]).all()
    assert rows["run_id"].n_unique() == 8
    assert rows.schema["cgroup_path"] == pl.String


def test_a_second_call_does_nothing_and_later_periods_are_added(store: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    put_together(store, to)
    before = {path: path.stat().st_mtime_ns for path in to.rglob("*") if path.is_file()}
    (hour,) = put_together(store, to)
    assert (hour.periods, hour.known, hour.files) == (0, 8, 0)
    assert {path: path.stat().st_mtime_ns for path in to.rglob("*") if path.is_file()} == before
    write_node(tmp_path / "late", 9)
    lay_out_objects(tmp_path / "late", store)
    (hour,) = put_together(store, to)
    assert (hour.periods, hour.known) == (1, 8)
    assert compacted_rows(to, "windows").equals(rows_of(store, "windows"))
    assert ask(to) == ask(store)


def test_what_is_not_complete_follows_later(store: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    period = find_periods(ObjectStore(f"file://{store}"), nodes=["node-2"]).periods[0]
    write_period(store, "node-2", msgspec.structs.replace(period, complete=False))
    (hour,) = put_together(store, to, delete=True)
    assert (hour.periods, hour.left, hour.deleted) == (7, 1, True)
    assert [path.name[:6] for path in store.glob("periods/*/*/*.json")] == ["node-2"]
    write_period(store, "node-2", period)
    (hour,) = put_together(store, to)
    assert (hour.periods, hour.left) == (1, 0)
    assert ask(to).nodes == 8


def test_one_that_was_killed_is_followed_by_one_that_is_right(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "to"
    write = ObjectStore.write

    def until_the_manifest(self: ObjectStore, path: str, content: bytes | Path) -> None:
        if path.startswith(COMPACTIONS):
            raise KeyboardInterrupt
        write(self, path, content)

    monkeypatch.setattr(ObjectStore, "write", until_the_manifest)
    with pytest.raises(KeyboardInterrupt):
        put_together(store, to, delete=True)
    monkeypatch.undo()
    assert len(list(store.glob("periods/*/*/*.json"))) == 8
    with pytest.raises(UsageError, match="no node has uploaded anything there"):
        ask(to)
    # Another set of sources, so that files have other names.
    write_node(tmp_path / "late", 9)
    lay_out_objects(tmp_path / "late", store)
    expected = rows_of(store, "windows")
    put_together(store, to)
    assert compacted_rows(to, "windows").equals(expected)
    assert len(list(to.glob("compacted/windows/*/*/*.parquet"))) == 1


def test_in_the_same_place_nothing_counts_twice_with_or_without_the_originals(store: Path) -> None:
    expected = ask(store)
    put_together(store, store)
    assert ask(store) == expected
    put_together(store, store, delete=True)
    assert not list(store.glob("windows/*/*/*/*.parquet"))
    assert not list(store.glob("periods/*/*/*.json"))
    assert ask(store) == expected


def test_a_node_is_reported_on_from_what_is_compacted_as_before(store: Path, tmp_path: Path) -> None:
    url = f"file://{store}"
    asked = {"since": "2026-11-22T14:00:00.5Z", "nodes": ["node-1", "node-3"]}
    before = report(open_named([url], **asked))
    put_together(store, tmp_path / "to")
    elsewhere = open_named([f"file://{tmp_path / 'to'}"], **asked)
    assert report(elsewhere) == before
    assert {one.host.node_name for one in elsewhere.manifests} == {"node-1", "node-3"}
    put_together(store, store)
    assert report(open_named([url], **asked)) == before
    put_together(store, store, delete=True)
    after = open_named([url], **asked)
    assert report(after) == before
    for table in ("windows", "waits"):
        assert after.collect(after.scan(table)).height > 0
    run = after.manifests[0]
    alone = open_named([f"{url}@{run.run_id}"])
    assert alone.nodes == [run.host.node_name]


def test_files_end_at_the_size_that_was_asked_for(store: Path, tmp_path: Path) -> None:
    (hour,) = put_together(store, tmp_path / "to", size=1)
    assert hour.files == 16
    for path in tmp_path.glob("to/compacted/windows/*/*/*.parquet"):
        metadata = pq.read_metadata(path)
        column = metadata.row_group(0).column(0)
        assert column.statistics.min == column.statistics.max
    assert ask(tmp_path / "to") == ask(store)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": 161}, r"windows-.* has 160 rows, and not 161 as its manifest says"),
        ({"sha256": "0" * 64}, r"windows-.* is not what its manifest says: other bytes"),
    ],
)
def test_a_file_that_is_not_what_its_manifest_says_stops_it(
    changes: dict[str, Any], said: str, store: Path, tmp_path: Path
) -> None:
    period = find_periods(ObjectStore(f"file://{store}"), nodes=["node-2"]).periods[0]
    files = [msgspec.structs.replace(file, **changes) if file.table == "windows" else file for file in period.files]
    write_period(store, "node-2", msgspec.structs.replace(period, files=files))
    with pytest.raises(UsageError, match=said):
        put_together(store, tmp_path / "to", delete=True)
    assert len(list(store.glob("periods/*/*/*.json"))) == 8
    assert not list(tmp_path.glob(f"to/{COMPACTIONS}/*/*"))


def test_the_command_says_what_became_of_an_hour(store: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["fleet", "compact", str(store), "--to", str(tmp_path / "to")])
    assert result.exit_code == 0
    assert "2026-11-22T14:00:00Z: 16 files of 8 runs (" in result.stdout
    assert ", 2,560 rows" in result.stdout
    for arguments, error in (
        (["--to", str(tmp_path / "to"), "--size", "1"], UsageError),
        (["--to", "/proc/nowhere"], OutputError),
        (["--to", "nothing://x"], UsageError),
    ):
        result = CliRunner().invoke(app, ["fleet", "compact", str(store), *arguments])
        assert isinstance(result.exception, error)
        assert "\n" not in str(result.exception)
