# SPDX-License-Identifier: Apache-2.0
"""What is uploaded, into a directory (`file://`), which is no other than any object store but for the requests."""

import json
from pathlib import Path
from uuid import UUID

import pytest
from store_examples import files_below
from upload_examples import (
    TEN,
    begin_run,
    close_file,
    counts,
    finished_run,
    periods_in,
    rows_here,
    rows_there,
    run_of,
)

from tracer.errors import OutputError
from tracer.store.closed_files import closed_files
from tracer.store.retention import Retention
from tracer.store.schemas import HEALTH, WINDOWS
from tracer.store.upload.object_store import ObjectStore
from tracer.store.upload.uploader import Uploader
from tracer.store.upload.uploads import Uploads
from tracer.store.upload.what_is_here import Node

NINE, TEN_O_CLOCK = "2026-11-22T09:00:00Z", "2026-11-22T10:00:00Z"


def uploads_of(output: Path, target: Path) -> Uploads:
    return Uploads(output, f"file://{target}")


def uploader(output: Path, target: Path, uploads: Uploads | None = None, node: Node | None = None) -> Uploader:
    return Uploader(output, ObjectStore(f"file://{target}"), uploads or uploads_of(output, target), node=node)


def retention(output: Path, uploads: Uploads, keep_bytes: int) -> Retention:
    return Retention(output, "node-1", keep_bytes, "delete-oldest", node_name="node-1", uploads=uploads)


def test_each_hour_of_a_run_is_there_once_and_whole_and_named_by_its_period(tmp_path: Path):
    output, target = tmp_path / "results", tmp_path / "store"
    run_id = finished_run(output)
    assert uploader(output, target).upload() is None

    assert rows_there(target) == rows_here(output)
    periods = periods_in(target)
    assert list(periods) == [NINE, TEN_O_CLOCK]
    for hour, period in periods.items():
        assert (period.run_id, period.node_name, period.identifier) == (run_id, "node-1", "node-1")
        assert period.complete
        assert period.lost == {}
        assert [file.table for file in period.files] == ["health", "windows"]
        assert all((target / file.path).stat().st_size == file.bytes for file in period.files)
        day_and_hour = f"dt={hour[:10]}/hour={hour[11:13]}"
        assert all(f"/{day_and_hour}/identifier=node-1/" in file.path for file in period.files)
        assert (target / f"periods/{day_and_hour}/node-1-{run_id.hex[:8]}.json").exists()
    session = Path("runs", str(run_id), "session.json")
    assert (target / session).read_bytes() == (output / session).read_bytes()
    uploads = uploads_of(output, target)
    assert all(uploads.is_safe(file.name) for file in closed_files(output, "node-1"))


def test_a_repeat_sends_nothing_and_without_its_state_finds_out_what_is_there(tmp_path: Path):
    output, target = tmp_path / "results", tmp_path / "store"
    run_id = finished_run(output)
    uploader(output, target).upload()
    before = {name: (target / name).stat().st_mtime_ns for name in files_below(target)}
    again = uploader(output, target)
    assert again.upload() is None
    (output / "runs" / str(run_id) / "upload.json").unlink()
    without_state = uploader(output, target)
    assert without_state.upload() is None
    assert (again.done.files, without_state.done.files, without_state.done.periods) == (0, 0, 0)
    after = {name: (target / name).stat().st_mtime_ns for name in files_below(target)}
    assert {name for name in before if before[name] != after[name]} <= {f"runs/{run_id}/session.json"}
    assert before.keys() == after.keys()
    assert all(uploads_of(output, target).is_safe(file.name) for file in closed_files(output, "node-1"))


def test_a_file_that_was_sent_before_a_crash_is_not_sent_again_and_a_damaged_one_is(tmp_path: Path):
    output, target = tmp_path / "results", tmp_path / "store"
    run_id = finished_run(output)
    uploader(output, target).upload()
    first, second = (file.path for file in periods_in(target)[NINE].files)
    for path in target.glob("periods/dt=*/hour=*/*.json"):
        path.unlink()
    (output / "runs" / str(run_id) / "upload.json").unlink()
    kept = (target / second).stat().st_mtime_ns
    (target / first).write_bytes(b"x" * (target / first).stat().st_size)
    after_crash = uploader(output, target)
    assert after_crash.upload() is None
    assert after_crash.done.files == 1
    assert (target / second).stat().st_mtime_ns == kept
    assert rows_there(target) == rows_here(output)


def test_of_a_live_run_only_hours_that_are_over_and_the_rest_when_it_is(tmp_path: Path):
    output, target = tmp_path / "results", tmp_path / "store"
    store = begin_run(output)
    run_id = run_of(output)
    for second in (-90, -30, 30):
        close_file(store, WINDOWS, [second, second + 59])
    one = uploader(output, target)
    assert one.upload(own=run_id, until_hour=TEN - 1) is None
    assert periods_in(target) == {}
    session = target / "runs" / str(run_id) / "session.json"
    first = session.read_bytes()
    # As at each rotation, which would be a put each on all nodes.
    manifest = output / "runs" / str(run_id) / "session.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    assert one.upload(own=run_id, until_hour=TEN - 1) is None
    assert session.read_bytes() == first
    assert one.upload(own=run_id, until_hour=TEN) is None
    assert session.read_bytes() == manifest.read_bytes()
    assert list(periods_in(target)) == [NINE]
    # That of 9:59:30 has a row of ten o'clock.
    uploads = uploads_of(output, target)
    assert [uploads.is_safe(file.name) for file in closed_files(output, "node-1")] == [True, False, False]
    assert one.left(own=run_id).files == 2
    assert one.upload(own=run_id) is None
    assert rows_there(target) == rows_here(output)
    assert one.left(own=run_id).files == 0


def test_rows_that_come_after_their_hour_was_uploaded_are_a_further_file_of_it(tmp_path: Path):
    output, target = tmp_path / "results", tmp_path / "store"
    store = begin_run(output)
    close_file(store, WINDOWS, [-90, -10])
    one = uploader(output, target)
    one.upload(own=run_of(output), until_hour=TEN)
    close_file(store, WINDOWS, [-20, 10], 1)
    store.release()
    assert one.upload() is None
    first, second = periods_in(target)[NINE].files
    assert first.path.endswith("-000000.parquet")
    assert second.path.endswith("-000001.parquet")
    assert (first.sources, second.sources) == ("0", "1")
    assert rows_there(target) == rows_here(output)


def test_a_damaged_file_is_named_and_passed_over_and_all_others_are_uploaded(tmp_path: Path):
    output, target = tmp_path / "results", tmp_path / "store"
    finished_run(output)
    first, second, *_ = sorted(output.glob("windows/dt=*/identifier=*/*.parquet"))
    # Its end can be read, its rows cannot; and one that is nothing at all.
    content = bytearray(first.read_bytes())
    content[100:4000] = bytes(3900)
    first.write_bytes(content)
    second.write_bytes(b"PAR1 and nothing else")
    one = uploader(output, target)
    assert one.upload() is None
    assert set(one.damaged) == {str(path.relative_to(output)) for path in (first, second)}
    assert counts(rows_there(target)) == {"windows": 100, "health": 200}
    assert not periods_in(target)[NINE].complete
    assert periods_in(target)[TEN_O_CLOCK].complete
    assert one.upload() is None


def test_other_nodes_and_live_runs_are_left_alone(tmp_path: Path):
    output, target = tmp_path / "results", tmp_path / "store"
    for node_name, identifier in (("node-2", "node-1"), ("node-1", "other")):
        store = begin_run(output, node_name=node_name, identifier=identifier)
        close_file(store, WINDOWS, [1])
    assert uploader(output, target, node=Node("node-1", "node-1")).upload() is None
    assert files_below(target) == []
    assert uploader(output, target).upload() is None
    assert len(list(target.glob("periods/*/*/*.json"))) == 2


def test_what_is_uploaded_goes_first_and_the_rest_is_counted_where_it_was_meant_to_be(tmp_path: Path):
    output, target = tmp_path / "results", tmp_path / "store"
    uploads = uploads_of(output, target)
    store = begin_run(output)
    run_id = run_of(output)
    # The oldest are of an hour that is not over.
    close_file(store, HEALTH, [5, 6])
    close_file(store, HEALTH, [-30, -20])
    close_file(store, HEALTH, [-10, 10, 20])
    one = uploader(output, target, uploads)
    assert one.upload(own=run_id, until_hour=TEN) is None
    sizes = [file.size for file in closed_files(output, "node-1")]
    keeping = retention(output, uploads, sum(sizes))
    new = output / "windows" / "dt=2026-11-22" / "identifier=node-1" / "new"
    keeping.write_closed_file(new, bytes(10))
    assert keeping.removed.before_upload.rows == {}
    assert len(closed_files(output, "node-1")) == 2
    # Both that are left have something that is not there yet.
    keeping.write_closed_file(new.with_name("newer"), bytes(sum(sizes) - 10))
    assert keeping.removed.before_upload.rows == {"health": 4}
    assert closed_files(output, "node-1") == []
    store.release()
    assert uploader(output, target).upload() is None
    period = periods_in(target)[TEN_O_CLOCK]
    assert period.lost == {"health": 4}
    assert period.files == []
    assert counts(rows_there(target)) == {"health": 3}


def test_a_store_that_cannot_be_written_keeps_the_files_and_says_so(tmp_path: Path):
    output, target = tmp_path / "results", tmp_path / "store"
    finished_run(output)
    target.write_text("not a directory")
    failure = uploader(output, target).upload()
    assert failure is not None
    assert failure.is_lasting
    assert uploader(output, target).left().files == 8


def test_what_somebody_put_in_the_place_of_a_period_is_replaced_but_not_another_runs(tmp_path: Path):
    output, target = tmp_path / "results", tmp_path / "store"
    finished_run(output)
    uploader(output, target).upload()
    nine, ten = sorted(target.glob("periods/dt=*/hour=*/*.json"))
    nine.write_text("{}")
    other = json.loads(ten.read_text()) | {"run_id": str(UUID(int=7))}
    ten.write_text(json.dumps(other))
    (output / "runs" / str(run_of(output)) / "upload.json").write_text("damaged")
    failure = uploader(output, target).upload()
    assert failure is not None
    assert "of another run" in str(failure)
    assert json.loads(ten.read_text()) == other
    assert json.loads(nine.read_text())["hour"] == NINE


def test_stop_refuses_what_does_not_fit_with_uploads_too(tmp_path: Path):
    output = tmp_path / "results"
    store = begin_run(output)
    close_file(store, HEALTH, [5])
    keeping = Retention(
        output, "node-1", 100, "stop", node_name="node-1", uploads=uploads_of(output, tmp_path / "store")
    )
    with pytest.raises(OutputError):
        keeping.write_closed_file(output / "windows" / "x", bytes(200))
    assert len(closed_files(output, "node-1")) == 1
