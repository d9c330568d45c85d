# SPDX-License-Identifier: Apache-2.0
"""Recordings in an object store: which of its files a question is about, and what is said where that cannot be."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from fleet_examples import WINDOWS, write_fleet, write_node
from object_layout import lay_out_objects, write_period
from planted_recording import START_NS, WINDOW_NS

from tracer.analysis.engines import get_engine
from tracer.analysis.fleet.report import fleet_report
from tracer.analysis.fleet.results import FleetReport
from tracer.analysis.fleet.sources import open_source
from tracer.analysis.objects.finding import find_periods
from tracer.analysis.objects.store import ObjectStore
from tracer.analysis.recording_names import open_named, parse_name
from tracer.analysis.report import report
from tracer.errors import UsageError
from tracer.naming import Selector
from tracer.store.periods import Period, PeriodFile, decode_period

pytest.importorskip("obstore")

HOUR_WINDOWS = 3_600 * 10**9 // WINDOW_NS


def of_fleet(*names: str, engine: str = "polars", **options: Any) -> FleetReport:
    return fleet_report(open_source(names, **options), get_engine(engine), top=10, containers=Selector(()))


@pytest.fixture(scope="module")
def three_hours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nodes, from 14:00 on the first moments of each of three hours."""
    output = tmp_path_factory.mktemp("output")
    for hour in range(3):
        for number in (1, 2):
            write_node(output, number, first_window=hour * HOUR_WINDOWS)
    return lay_out_objects(output, tmp_path_factory.mktemp("store"))


def test_an_object_store_says_what_its_directories_say(tmp_path: Path) -> None:
    output = write_fleet(tmp_path / "output", node_1={"waits_ms": 30}, node_3={"cpi": 1.5})
    store = lay_out_objects(output, tmp_path / "store")
    expected = of_fleet(str(output))
    for engine in ("polars", "duckdb"):
        assert msgspec.structs.replace(of_fleet(f"file://{store}", engine=engine), engine="polars") == expected
    of_url = open_named([f"file://{store}"], since="2026-11-22T14:00Z", nodes=["node-1"])
    assert report(of_url) == report(open_named([str(output)], nodes=["node-1"]))


def test_of_no_time_the_last_hour_is_read_and_said(three_hours: Path) -> None:
    found = find_periods(ObjectStore(f"file://{three_hours}"))
    assert {int(period.hour[11:13]) for period in found.periods} == {16}
    assert found.choice is not None
    assert "the last hour is read, from 2026-11-22 16:00 UTC on" in found.choice


@pytest.mark.parametrize(
    ("since", "until", "hours"),
    [
        ("14:00", None, {14, 15, 16}),
        ("2026-11-22T15:00:00Z", None, {15, 16}),
        (None, "2026-11-22T15:00:00Z", {14}),
        ("2026-11-22T15:30", "2026-11-22T15:45", {15}),
        ("-1s", None, {16}),
        ("-59m", None, {15, 16}),
        ("+61m", "+62m", {15}),
    ],
)
def test_a_time_reads_no_other_hours(
    three_hours: Path, since: str | None, until: str | None, hours: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[str] = []
    store = ObjectStore(f"file://{three_hours}")
    whole = ObjectStore.list
    monkeypatch.setattr(ObjectStore, "list", lambda self, prefix: listed.append(prefix) or whole(self, prefix))
    found = find_periods(store, since=since, until=until, nodes=["node-2"])
    assert {int(period.hour[11:13]) for period in found.periods} == hours
    assert {period.node_name for period in found.periods} == {"node-2"}
    # Days, hours and nodes of those hours, and of those at the ends that times may count from.
    ends = {14, 16} if (since or "").startswith(("+", "-")) else set()
    nodes = {int(prefix[-2:]) for prefix in listed if "hour=" in prefix}
    assert hours <= nodes <= hours | ends


def test_times_are_those_of_all_that_is_there(three_hours: Path) -> None:
    recording = open_named([f"file://{three_hours}"], since="+61m", nodes=["node-1"])
    assert recording.nodes == ["node-1"]
    assert recording.span.start == datetime(2026, 11, 22, 16, tzinfo=UTC)
    last = open_named([f"file://{three_hours}@-1s.."])
    assert (last.span.end - last.span.start).total_seconds() == pytest.approx(1, abs=0.001)
    assert open_named([f"file://{three_hours}"]).places == (f"file://{three_hours}",)


def test_what_was_copied_goes_with_the_recording(
    three_hours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    recording = open_named([f"file://{three_hours}"], tables=["windows"])
    assert recording.has("windows")
    assert not recording.has("waits")
    (directory,) = tmp_path.iterdir()
    assert {path.name for path in directory.iterdir()} == {"windows", "runs"}
    del recording
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError):
        open_named([f"file://{three_hours}"], container="nobody", since="2026-11-22T16:30:00Z")
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_named_behind_a_url_that_may_have_such_a_sign(three_hours: Path) -> None:
    assert parse_name("s3://bucket/user@host") == ("s3://bucket/user@host", None, None, None)
    assert parse_name("s3://bucket/x@last@-5m..") == ("s3://bucket/x", "last", "-5m", None)
    run = find_periods(ObjectStore(f"file://{three_hours}")).periods[0].run_id
    assert [one.run_id for one in open_named([f"file://{three_hours}@{str(run)[:6]}"]).manifests] == [run]


def test_what_was_lost_before_it_was_uploaded_is_said(tmp_path: Path) -> None:
    write_node(tmp_path / "output", 1)
    store = lay_out_objects(tmp_path / "output", tmp_path / "store")
    (period,) = find_periods(ObjectStore(f"file://{store}")).periods
    write_period(store, "node-1", msgspec.structs.replace(period, lost={"windows": 1234}))
    assert "removed on the nodes before they were uploaded: 1,234 rows of windows" in of_fleet(f"file://{store}").notes


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("ftp://x/y", {}, "no kind of URL 'ftp'"),
        ("file:///nowhere/at/all", {}, "there is no such directory"),
        ("file://{store}/windows", {}, "no node has uploaded anything there"),
        ("file://{store}", {"nodes": ["node-7"]}, "there are node-1, node-2"),
        (
            "file://{store}",
            {"since": "2026-11-23T00:00Z"},
            "nothing was uploaded of that time; there is 2026-11-22 14:00",
        ),
        ("file://{store}", {"since": "soon"}, "not a time: 'soon'"),
        ("file://{store}", {"since": "15:00", "until": "14:00"}, "ends before it begins"),
        ("file://{store}@0000", {}, "nothing was uploaded then of what is asked for"),
    ],
)
def test_mistakes_are_one_line(three_hours: Path, url: str, options: dict[str, Any], said: str) -> None:
    for question in (open_source, open_named):
        with pytest.raises(UsageError) as error:
            question([url.format(store=three_hours)], **options)
        assert said in str(error.value)
        assert "\n" not in str(error.value)


def test_a_file_that_a_period_names_and_that_is_gone_is_named(tmp_path: Path) -> None:
    write_node(tmp_path / "output", 1)
    store = lay_out_objects(tmp_path / "output", tmp_path / "store")
    (gone,) = store.glob("waits/*/*/*/*.parquet")
    gone.unlink()
    with pytest.raises(UsageError, match=r"waits-.*there is no such object"):
        open_named([f"file://{store}"])
    for engine in ("polars", "duckdb"):
        with pytest.raises(UsageError, match=r"cannot read the recordings: .*waits") as error:
            of_fleet(f"file://{store}", engine=engine)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "table"),
    [
        ("../../etc/passwd", "windows"),
        ("windows/dt=2026-11-22/hour=14/identifier=a/../windows-20261122T140000Z-0123abcd-000000.parquet", "windows"),
        ("waits/dt=2026-11-22/hour=14/identifier=n/waits-20261122T140000Z-0123abcd-000000.parquet", "windows"),
    ],
)
def test_a_manifest_that_names_what_is_no_file_of_its_table_is_refused(path: str, table: str, tmp_path: Path) -> None:
    file = PeriodFile(
        path=path, table=table, rows=1, bytes=1, sha256="0" * 64, first_time_ns=START_NS, last_time_ns=START_NS
    )
    period = Period(
        node_name="n", identifier="n", run_id=UUID(int=1), hour="2026-11-22T14:00:00Z", files=[file],
        complete=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match="which is no file of 2026"):
        decode_period(msgspec.json.encode(period))
    write_period(tmp_path, "n", period)
    with pytest.raises(UsageError, match="which is no file of 2026"):
        open_named([f"file://{tmp_path}"])


def test_a_manifest_under_anothers_name_is_refused(tmp_path: Path) -> None:
    write_node(tmp_path / "output", 1)
    store = lay_out_objects(tmp_path / "output", tmp_path / "store")
    (path,) = store.glob("periods/*/*/*.json")
    path.rename(path.with_name(path.name.replace("node-1", "node-2")))
    with pytest.raises(UsageError, match="is of another node, run or hour than its name says"):
        of_fleet(f"file://{store}")


def test_windows_of_an_hour_are_those_that_were_planted(three_hours: Path) -> None:
    assert of_fleet(f"file://{three_hours}").recorded_cpu_ns == 2 * 2 * WINDOW_NS * WINDOWS
