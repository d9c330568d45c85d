# SPDX-License-Identifier: Apache-2.0
"""Uploads to a real S3 server on the loopback, through a proxy that does wrong what networks and stores do wrong."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import BUCKET, S3, Fault, Request, s3_server
from store_examples import files_below
from upload_examples import begin_run, close_file, finished_run, periods_in, rows_here, rows_there, run_of

from tracer.store.schemas import WINDOWS
from tracer.store.upload.object_store import PART_BYTES, ObjectStore, UploadError
from tracer.store.upload.uploader import Uploader
from tracer.store.upload.uploads import Uploads

URL = f"s3://{BUCKET}/fleet/a"


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def output(tmp_path: Path) -> Path:
    finished_run(tmp_path / "results")
    return tmp_path / "results"


def uploader(output: Path, url: str = URL) -> Uploader:
    return Uploader(output, ObjectStore(url), Uploads(output, url))


def target(s3: S3) -> Path:
    return s3.objects / "fleet" / "a"


def upload_all(output: Path) -> int:
    """How often it took."""
    one = uploader(output)
    for attempt in range(1, 10):
        if one.upload() is None:
            return attempt
    raise AssertionError("it never was uploaded")


def test_data_goes_first_then_the_runs_manifest_and_the_periods_last(s3: S3, output: Path):
    assert upload_all(output) == 1
    assert rows_there(target(s3)) == rows_here(output)
    run_id = run_of(output)
    kinds = [path.removeprefix("fleet/a/").partition("/")[0] for path in s3.puts()]
    assert kinds == ["health", "windows", "runs", "periods", "health", "windows", "periods"]
    assert (target(s3) / f"runs/{run_id}/session.json").exists()
    before = len(s3.puts())
    assert uploader(output).upload() is None
    (output / "runs" / str(run_id) / "upload.json").unlink()
    again = uploader(output)
    assert again.upload() is None
    assert (again.done.files, again.done.periods) == (0, 0)
    # The run's manifest is small, and is the one thing of which the store does not say that it is there.
    assert s3.puts()[before:] == [f"fleet/a/runs/{run_id}/session.json"]


@pytest.mark.parametrize("fault", ["503", "reset", "truncate", "slow"])
def test_what_passes_by_itself_leaves_what_would_be_there_without_it(s3: S3, output: Path, fault: Fault):
    seen: set[str] = set()

    def once_each(request: Request) -> Fault | None:
        if request.is_put and request.path not in seen:
            seen.add(request.path)
            return fault
        return None

    s3.fault = once_each
    upload_all(output)
    assert rows_there(target(s3)) == rows_here(output)
    assert all(period.complete for period in periods_in(target(s3)).values())
    assert len(seen) == 7


def test_a_store_that_answers_nothing_for_long_is_given_up_for_now_and_nothing_is_lost(s3: S3, output: Path):
    s3.fault = lambda _request: "503"
    one = uploader(output)
    failure = one.upload()
    assert failure is not None
    assert not failure.is_lasting
    assert str(failure) == "503 Service Unavailable, SlowDown"
    assert one.left().files == 8
    s3.fault = lambda _request: None
    assert one.upload() is None
    assert rows_there(target(s3)) == rows_here(output)


def test_one_object_that_is_refused_does_not_hold_up_the_others(s3: S3, output: Path):
    s3.fault = lambda request: "403" if request.is_put and "/windows/dt=2026-11-22/hour=09" in request.path else None
    one = uploader(output)
    failure = one.upload()
    assert failure is not None
    assert failure.is_lasting
    periods = periods_in(target(s3))
    assert [period.complete for period in periods.values()] == [False, True]
    assert [len(period.files) for period in periods.values()] == [1, 2]
    s3.fault = lambda _request: None
    assert one.upload() is None
    assert all(period.complete for period in periods_in(target(s3)).values())
    assert rows_there(target(s3)) == rows_here(output)


@pytest.mark.parametrize("wrong", ["key", "bucket"])
def test_what_somebody_must_mend_is_told_apart(s3: S3, output: Path, monkeypatch: pytest.MonkeyPatch, wrong: str):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong" if wrong == "key" else os.environ["AWS_SECRET_ACCESS_KEY"])
    failure = uploader(output, f"s3://{'no-such' if wrong == 'bucket' else BUCKET}/x").upload()
    assert failure is not None
    assert failure.is_lasting
    assert (
        str(failure) == {"key": "403 Forbidden, SignatureDoesNotMatch", "bucket": "404 Not Found, NoSuchBucket"}[wrong]
    )
    assert files_below(s3.objects) == []
    assert uploader(output).left().files == 8


def test_large_files_go_in_parts_that_can_be_broken_off(s3: S3, tmp_path: Path):
    content = tmp_path / "content"
    content.write_bytes(os.urandom(2 * PART_BYTES + 17))
    store = ObjectStore(URL)
    sha256 = subprocess.run(["sha256sum", content], capture_output=True, text=True, check=True).stdout[:64]
    sizes: list[int] = []

    def stop(size: int) -> None:
        if sum(sizes) > PART_BYTES:
            raise UploadError("the run has ended", is_lasting=False)
        sizes.append(size)

    with content.open("rb") as file:
        with pytest.raises(UploadError, match="the run has ended"):
            store.put_file("large", file, content.stat().st_size, sha256, stop)
        assert not (target(s3) / "large").exists()
        sizes.clear()
        assert store.put_file("large", file, content.stat().st_size, sha256, sizes.append)
        assert sum(sizes) == content.stat().st_size
        assert not store.put_file("large", file, content.stat().st_size, sha256)
    assert (target(s3) / "large").read_bytes() == content.read_bytes()


def test_an_upload_that_is_killed_is_taken_up_where_it_was(s3: S3, output: Path):
    command = [sys.executable, "-m", "tracer.cli.main", "upload", output, URL]
    killed: list[subprocess.Popen[bytes]] = []

    def kill_at_the_fifth(request: Request) -> Fault | None:
        if request.is_put and len(s3.puts()) == 5:
            killed[0].kill()
            killed[0].wait()
            return "reset"
        return None

    s3.fault = kill_at_the_fifth
    killed.append(subprocess.Popen(command, env=os.environ | s3.environment))
    assert killed[0].wait() == -9
    assert len(periods_in(target(s3))) == 1
    s3.fault = lambda _request: None
    done = subprocess.run(command, env=os.environ | s3.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"uploaded to {URL}: ")
    assert rows_there(target(s3)) == rows_here(output)
    # Each once, but for that in which it was killed.
    sent = [path for path in s3.puts() if path.endswith(".parquet")]
    assert len(sent) == 5
    assert len(set(sent)) == 4


def test_a_command_says_in_one_line_what_is_wrong(s3: S3, output: Path):
    s3.fault = lambda _request: "403"
    command = [sys.executable, "-m", "tracer.cli.main", "upload", output, URL]
    done = subprocess.run(command, env=os.environ | s3.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert done.stderr.startswith("tracer: error: not uploaded: 8 files, ")
    assert done.stderr.endswith("MB: 403 Forbidden, AccessDenied\n")
    assert done.stderr.count("\n") == 1


def test_names_that_must_be_escaped_come_back(s3: S3, tmp_path: Path):
    results = tmp_path / "others"
    store = begin_run(results, identifier="pod/ä b")
    close_file(store, WINDOWS, [1])
    store.release()
    assert uploader(results).upload() is None
    (file,) = (file for period in periods_in(target(s3)).values() for file in period.files)
    assert "/identifier=pod%2F%C3%A4%20b/" in file.path
    assert (target(s3) / file.path).exists()
