# SPDX-License-Identifier: Apache-2.0
"""When an upload is tried again, what is told of it, what a URL may be, and what a period's manifest may say."""

import sys
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from tracer.errors import UsageError
from tracer.store.object_urls import check_target, check_url, lacks_credentials
from tracer.store.periods import (
    Period,
    PeriodFile,
    decode_period,
    encode_period,
    merged_path,
    period_path,
    periods_of_day,
    periods_of_hour,
    session_path,
)
from tracer.store.upload.course import LONGEST_WAIT_SECONDS, Course, bandwidth, share_of_cpu
from tracer.store.upload.object_store import ObjectStore, UploadError

RUN = UUID("0123abcd-4567-489a-8bcd-ef0123456789")
PASSING, LASTING = UploadError("timed out", is_lasting=False), UploadError("403 Forbidden", is_lasting=True)
FILE = PeriodFile(
    path="windows/dt=2026-11-22/hour=10/identifier=n/windows-20261122T100000Z-0123abcd-000000.parquet",
    table="windows",
    rows=1,
    bytes=2,
    sha256="0" * 64,
    first_time_ns=3,
    last_time_ns=4,
)
PERIOD = Period(
    node_name="node", identifier="n", run_id=RUN, hour="2026-11-22T10:00:00Z", files=[FILE], complete=True, lost={}
)


def test_it_is_tried_again_ever_later_and_not_by_all_nodes_at_once():
    course = Course("s3://b", lambda _line: None)
    waits = [course.fail(PASSING) for _attempt in range(12)]
    assert all(1 <= wait <= LONGEST_WAIT_SECONDS == 120 for wait in waits)
    assert waits[0] <= 2
    assert min(waits[-4:]) >= 60
    others = {Course("s3://b", lambda _line: None).fail(PASSING) for _node in range(10)}
    assert len(others) > 1


def test_what_lasts_is_told_at_once_what_passes_once_it_has_not_and_the_end_of_both():
    told: list[str] = []
    course = Course("s3://b", told.append)
    course.fail(PASSING)
    course.succeed()
    assert told == []
    for _attempt in range(5):
        course.fail(PASSING)
    assert len(told) == 1
    for _attempt in range(5):
        course.fail(LASTING)
    assert [line for line in told if "403" in line] == told[1:]
    course.succeed()
    course.succeed()
    assert len(told) == 3
    assert told[0].startswith("results cannot be uploaded to s3://b (timed out): they are kept here")
    assert told[2].startswith("results are uploaded to s3://b again, after ")
    assert not course.is_failing


def test_bandwidth_and_cpu_time_are_waited_for():
    waits: list[float] = []
    pace = bandwidth(100, waits.append)
    pace(500)
    assert waits == []
    pace(1)
    assert waits == [pytest.approx(5, abs=0.5)]
    free = bandwidth(None, waits.append)
    free(10**12)
    free(10**12)
    assert len(waits) == 1

    shares: list[float] = []
    pause = share_of_cpu(0.001, shares.append)
    sum(range(3_000_000))
    pause()
    assert shares[0] > 1


@pytest.mark.parametrize(
    "url",
    ["s3://bucket", "s3://bucket/a/b", "gs://bucket/a", "az://container/a", "file:///data/fleet", "s3://my.bucket-1"],
)
def test_urls_of_object_stores_are_taken(url: str):
    check_url(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "no kind of URL"),
        ("results", "no kind of URL 'results'"),
        ("http://host/x", "no kind of URL 'http'"),
        ("s3:bucket", "names no bucket"),
        ("s3:///x", "names no bucket"),
        ("file:///", "file:///DIR"),
        ("file://data/x", "file:///DIR"),
        ("s3://key:secret@bucket/x", "credentials are from the environment"),
        ("s3://bucket/x?versionId=1", "without user, password, [?] and #"),
        ("s3://bucket/a b", "printable ASCII"),
        ("s3://bucket/ä", "printable ASCII"),
        ("s3://bucket/../x", "without . and .."),
        ("s3://[bucket/x", "not a URL"),
        ("s3://bucket:x/y", "not a URL"),
    ],
)
def test_what_is_no_such_url_is_refused_by_what_is_wrong(url: str, says: str):
    with pytest.raises(UsageError, match=says) as refused:
        check_url(url)
    assert "secret" not in str(refused.value)


def test_results_are_not_uploaded_into_themselves(tmp_path: Path):
    output = tmp_path / "results"
    (tmp_path / "link").symlink_to(output)
    for target in (output, output / "x", tmp_path, tmp_path / "link" / "x"):
        with pytest.raises(UsageError, match="apart from the results"):
            check_target(f"file://{target}", output)
    check_target(f"file://{tmp_path / 'results-2'}", output)


def test_without_the_extra_it_is_said_what_brings_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UsageError, match=r"pip install 'tracer\[upload\]'"):
        ObjectStore("s3://bucket")


def test_what_the_environment_lacks_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch):
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_ACCOUNT_NAME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="Account must be specified"):
        ObjectStore("az://container/x")


def test_that_there_are_no_credentials_is_said_and_not_where_they_were_looked_for():
    error = OSError("Error performing PUT http://169.254.169.254/latest/api/token: 403 Forbidden")
    assert lacks_credentials(error)
    assert not lacks_credentials(OSError("403 Forbidden"))


def test_the_layout_is_as_it_is_described():
    hour = 1_795_341_600 // 3600
    assert merged_path("windows", "n", 1_795_341_600_000_000, RUN, 0) == FILE.path
    assert period_path(hour, "n", RUN) == "periods/dt=2026-11-22/hour=10/n-0123abcd.json"
    assert periods_of_day(hour) == "periods/dt=2026-11-22"
    assert periods_of_hour(hour) == "periods/dt=2026-11-22/hour=10"
    assert session_path(RUN) == f"runs/{RUN}/session.json"


def test_a_periods_manifest_comes_back():
    assert decode_period(encode_period(PERIOD)) == PERIOD


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"hour": "2026-11-22T10:30:00Z"},
        {"hour": "today"},
        {"files": [{"path": "../../etc/passwd"}]},
        {"files": [{"path": FILE.path.replace("hour=10", "hour=11")}]},
        {"files": [{"table": "waits"}]},
        {"files": [{"sha256": "0"}]},
        {"files": [{"rows": -1}]},
        {"lost": {"windows": "many"}},
        {"run_id": "7"},
        {"complete": None},
    ],
)
def test_a_periods_manifest_that_says_anything_else_is_refused(changes: dict[str, object]):
    made = msgspec.to_builtins(PERIOD)
    if isinstance(files := changes.get("files"), list):
        changes = {"files": [made["files"][0] | files[0]]}
    with pytest.raises(ValueError, match=r".+"):
        decode_period(msgspec.json.encode(made | changes))
    for content in (b"", b"[]", b"[" * 100_000, b"\xff"):
        with pytest.raises(ValueError, match=r".+"):
            decode_period(content)
