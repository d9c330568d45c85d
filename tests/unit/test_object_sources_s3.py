# SPDX-License-Identifier: Apache-2.0
"""What nodes upload to a real S3 server is read there: as it is, put together, and where something is wrong."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from fleet_examples import write_node
from s3_server import BUCKET, S3, Request, s3_server

from tracer.analysis.engines import get_engine
from tracer.analysis.fleet.compacting import compact
from tracer.analysis.fleet.report import fleet_report
from tracer.analysis.fleet.results import FleetReport
from tracer.analysis.fleet.sources import open_source
from tracer.analysis.objects.finding import find_periods
from tracer.analysis.objects.store import ObjectStore
from tracer.analysis.recording_names import open_named
from tracer.analysis.report import report
from tracer.errors import OutputError, UsageError
from tracer.naming import Selector
from tracer.store.upload.object_store import ObjectStore as UploadStore
from tracer.store.upload.uploader import Uploader
from tracer.store.upload.uploads import Uploads

URL = f"s3://{BUCKET}/fleet/a"
# In URLs and paths these letters stand for others.
ODD = "node-2 50%/ä"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("output")
    for number in (1, 2):
        write_node(directory, number, waits_ms=5 + number, identifier=ODD if number == 2 else None)
    return directory


@pytest.fixture
def s3(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        for state in output.glob("runs/*/upload.json"):
            state.unlink()
        assert Uploader(output, UploadStore(URL), Uploads(output, URL)).upload() is None
        server.requests.clear()
        yield server


def ask(place: str, engine: str = "polars", nodes: list[str] | None = None) -> FleetReport:
    report = fleet_report(open_source([place], nodes=nodes or []), get_engine(engine), top=9, containers=Selector(()))
    return msgspec.structs.replace(report, engine="")


@pytest.mark.usefixtures("s3")
def test_what_was_uploaded_says_what_its_directory_says(output: Path) -> None:
    for engine in ("polars", "duckdb"):
        assert ask(URL, engine) == ask(str(output))
        assert ask(URL, engine, [ODD]) == ask(str(output), nodes=[ODD])
    of_url = open_named([URL], since="2026-11-22T14:00Z", nodes=[ODD])
    assert report(of_url) == report(open_named([str(output)], nodes=[ODD]))


def test_nothing_is_listed_but_days_hours_and_nodes(s3: S3) -> None:
    find_periods(ObjectStore(URL), nodes=["node-1"], compacted="no")
    periods = [request.path for request in s3.requests if request.path.endswith(".json")]
    assert len(periods) == 1
    assert len(s3.requests) <= 5


def test_put_together_it_says_the_same_and_the_originals_can_go(s3: S3, output: Path) -> None:
    found = find_periods(ObjectStore(URL), compacted="no")
    (hour,) = compact(found, ObjectStore(URL), size=2**28, delete=True)
    assert (hour.periods, hour.deleted) == (2, True)
    left = [path for path in (s3.objects / "fleet" / "a").rglob("*") if path.is_file()]
    assert {path.relative_to(s3.objects / "fleet" / "a").parts[0] for path in left} == {
        "compacted", "compactions", "runs",
    }  # fmt: skip
    for engine in ("polars", "duckdb"):
        assert ask(URL, engine) == ask(str(output))
    of_url = open_named([URL], since="2026-11-22T14:00Z", nodes=[ODD])
    assert report(of_url) == report(open_named([str(output)], nodes=[ODD]))


def test_what_is_refused_or_missing_is_one_line(s3: S3) -> None:
    with pytest.raises(UsageError, match=r"s3://no-such-bucket/x/periods: .*NoSuchBucket"):
        open_source(["s3://no-such-bucket/x"])
    found = find_periods(ObjectStore(URL), compacted="no")
    s3.fault = lambda request: "403" if request.method in ("GET", "PUT") and _is_data(request) else None
    with pytest.raises(UsageError, match=r"\.parquet: access is denied"):
        open_named([URL])
    for engine in ("polars", "duckdb"):
        with pytest.raises(UsageError) as error:
            ask(URL, engine)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="access is denied"):
        list(compact(found, ObjectStore(URL), size=2**28, delete=True))
    s3.fault = lambda request: "403" if request.method == "PUT" else None
    with pytest.raises(OutputError, match="access is denied"):
        list(compact(found, ObjectStore(URL), size=2**28, delete=True))
    s3.fault = lambda _request: None
    assert ask(URL).nodes == 2


def _is_data(request: Request) -> bool:
    return request.path.endswith(".parquet")
