# SPDX-License-Identifier: Apache-2.0
"""Which of the runs of a directory is meant, and what is said of it."""

import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from json_answers import answer_of
from recording_examples import START, windows_rows, write_rows
from store_examples import new_store
from test_manifest import example_manifest

from tracer.analysis.recording import open_recording
from tracer.analysis.recording_names import open_named, parse_name
from tracer.analysis.report import report
from tracer.analysis.run_list import list_runs
from tracer.cli.main import app
from tracer.errors import UsageError
from tracer.store.manifest import Instant
from tracer.store.open_runs import RunLock

FIRST, SECOND, THIRD = (
    UUID(f"{digits}-4567-489a-8bcd-ef0123456789") for digits in ("ffff0123", "0123abcd", "0123ffff")
)
HOUR = timedelta(hours=1)


def write_run(
    output: Path, run_id: UUID, start: datetime, *, windows: int = 100, node: str = "node-1", **changes: Any
) -> Path:
    """A run of so many windows of 60 ms, with its manifest."""
    if windows:
        rows = windows_rows(windows)
        for number, row in enumerate(rows):
            row["window_start"] = start + timedelta(milliseconds=60 * number)
        write_rows(output, "windows", rows, run_id=run_id, node_name=node)
    host = msgspec.structs.replace(example_manifest().host, node_name=node, identifier=node)
    began = Instant.of(int(start.timestamp()) * 10**9)
    new_store(output, run_id=run_id).write_manifest(
        example_manifest(**{"run_id": run_id, "start": began, "host": host, "status": "finished", **changes})
    )
    return output


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Three runs of one node, an hour apart; ids do not sort by time."""
    for run_id, hours in ((FIRST, 0), (SECOND, 1), (THIRD, 2)):
        write_run(tmp_path / "results", run_id, START + hours * HOUR)
    return tmp_path / "results"


def tracer(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tracer.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_newest_is_meant_unless_another_is_named(three: Path) -> None:
    newest = open_named([str(three)])
    assert [one.run_id for one in newest.manifests] == [THIRD]
    (choice,) = newest.choices
    assert choice.startswith("the newest of 3 runs is read: 0123ffff (")
    for name, start, count in (
        ("last", 2 * HOUR, 100),
        ("all", 0 * HOUR, 300),
        ("ffff", 0 * HOUR, 100),
        ("0123A", HOUR, 100),
        (str(SECOND), HOUR, 100),
        (SECOND.hex, HOUR, 100),
    ):
        named = open_named([f"{three}@{name}"])
        assert (named.span.start, named.scan("windows").collect().height) == (START + start, count), name
        assert named.choices == []


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("0123", "more than one run begins with '0123'; there are: 0123abcd, 0123ffff in "),
        ("x", "no run begins with 'x'; there are: ffff0123, 0123abcd, 0123ffff in "),
        (f"{SECOND}1", "no run begins with "),
        (str(SECOND).replace("4567", "4568"), "no run begins with "),
    ],
)
def test_which_there_are_is_said_in_one_line(run: str, said: str, three: Path) -> None:
    done = tracer("report", f"{three}@{run}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"tracer: error: {said}")
    assert done.stderr.count("\n") == 1


def test_a_time_means_whatever_was_recorded_then_and_a_relative_one_the_newest(three: Path) -> None:
    def runs(**asked: str) -> list[UUID]:
        return [one.run_id for one in open_named([str(three)], **asked).manifests]

    assert runs(since="14:00", until="14:10") == runs(until="14:10") == [FIRST]
    assert runs(since="15:00:03", until="2026-11-22T16:00:01Z") == [SECOND, THIRD]
    assert runs(since="-5s") == runs(until="+3s") == [THIRD]
    with pytest.raises(
        UsageError, match=r"that time ends before it begins \(from .*16:00:05.000 .*: the recording is from"
    ):
        runs(since="2026-11-22T16:00:05Z", until="2026-11-22T16:00:03Z")
    with pytest.raises(UsageError, match=r"is from 2026-11-22 14:00:00 UTC to 2026-11-22 16:00:05 UTC$"):
        runs(since="14:30", until="14:31")
    with pytest.raises(
        UsageError, match=r"is from 2026-11-22 16:00:00.000 UTC to .*; the newest of 3 runs is read: 0123ffff"
    ):
        runs(since="+10s")


def test_of_several_nodes_the_newest_of_each(tmp_path: Path) -> None:
    write_run(tmp_path, FIRST, START, node="node-1")
    write_run(tmp_path, SECOND, START + HOUR, node="node-1")
    write_run(tmp_path, THIRD, START + HOUR / 2, node="node-2")
    newest = open_named([str(tmp_path)])
    assert {one.run_id for one in newest.manifests} == {SECOND, THIRD}
    assert "the newest of 3 runs of each node is read: 0123ffff, 0123abcd" in newest.choices[0]
    assert [one.run_id for one in open_named([f"{tmp_path}@last"]).manifests] == [SECOND]


def test_a_run_without_a_file_is_not_the_newest(three: Path) -> None:
    write_run(three, UUID(int=7 << 96), START + 3 * HOUR, windows=0, status="running")
    assert [one.run_id for one in open_named([str(three)]).manifests] == [THIRD]
    with pytest.raises(UsageError, match="run 00000007 has no closed file yet; there are: ffff0123, 0123abcd, 0123"):
        open_named([f"{three}@00000007"])


def test_an_at_sign_in_a_path_is_one(tmp_path: Path) -> None:
    odd = write_run(tmp_path / "a@b", FIRST, START)
    assert parse_name(str(odd)).place == str(odd)
    assert parse_name(f"{odd}@last") == (str(odd), "last", None, None)
    assert parse_name(f"{odd}@last@-5m..") == (str(odd), "last", "-5m", None)


def test_every_command_takes_one_and_says_which(
    three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (
        ("report", three),
        ("plot", three, "--output", tmp_path / "a.svg"),
        ("export", three, "--perfetto", tmp_path / "a"),
        ("compare", three, f"{three}@0123a"),
    ):
        app([str(argument) for argument in arguments], standalone_mode=False)
        assert "the newest of 3 runs is read: 0123ffff" in capsys.readouterr().err.splitlines()[0]
    done = tracer("report", f"{three}@ffff", "--since", "-5s", "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout)["start"] == "2026-11-22T14:00:00.940001Z"


def test_the_list(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(three, UUID(int=7 << 96), START + 3 * HOUR, windows=0, status="running")
    held = RunLock.take(three, UUID(int=7 << 96), make=True)
    assert held is not None
    write_run(three, UUID(int=8 << 96), START + 4 * HOUR, status="running")
    write_rows(three, "ticks", [{"tick_start": START + 5 * HOUR}], run_id=UUID(int=9 << 96))
    path = three / "runs" / str(SECOND) / "session.json"
    path.write_bytes(b"{")
    done = tracer("runs", three, "--json")
    found = answer_of("runs", done.stdout)
    assert found["version"] == 1
    runs = {run["id"]: run for run in found["runs"]}
    assert list(runs) == ["ffff0123", "0123abcd", "0123ffff", "00000007", "00000008", "00000009"]
    assert [run["status"] for run in runs.values()] == [
        "finished", "unknown", "finished", "running", "killed", "unknown",
    ]  # fmt: skip
    assert runs["ffff0123"]["start"] == "2026-11-22T14:00:00Z"
    assert runs["ffff0123"]["recorded_seconds"] == pytest.approx(5.94, abs=0.001)
    assert runs["ffff0123"]["tables"] == ["windows"]
    assert "session.json" in runs["0123abcd"]["reason"]
    assert runs["00000007"]["recorded_seconds"] is None
    held.close()
    assert {run.status for run in list_runs(three).runs if run.id == "00000007"} == {"killed"}
    lines = tracer("runs", three).stdout.splitlines()
    assert len(lines) == 6
    first = ["ffff0123", "2026-11-22", "14:00:00", "UTC", "5.9", "s", "node-1"]
    assert lines[0].split()[: len(first)] == first
    monkeypatch.setenv("COLUMNS", "80")
    lines = tracer("runs", three).stdout.splitlines()
    assert lines[0].split() == first
    assert max(map(len, lines)) <= 80
    assert tracer("runs", three / "none").returncode == 2


def test_a_run_is_open_as_long_as_its_process_lives(tmp_path: Path) -> None:
    output = write_run(tmp_path, FIRST, START, status="running")
    program = (
        "import signal, sys, uuid, pathlib; from tracer.store.open_runs import RunLock;"
        f"held = RunLock.take(pathlib.Path(sys.argv[1]), uuid.UUID({str(FIRST)!r}), make=True);"
        "print(flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program, output], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert list_runs(output).runs[0].status == "running"
        process.kill()
    assert list_runs(output).runs[0].status == "killed"


def pressed(start: datetime, first_usec: int) -> list[dict[str, Any]]:
    """Ten seconds in which a cgroup waits for a CPU for 130 ms each second."""
    return [
        {
            "time": start + timedelta(seconds=second),
            "cgroup_id": 7,
            "cgroup_path": "/a",
            "cpu_pressure_some_total_usec": first_usec + 130_000 * second,
        }
        for second in range(11)
    ]


def test_shares_are_of_what_was_recorded(tmp_path: Path) -> None:
    for run_id, hours, first_usec in ((FIRST, 0, 0), (SECOND, 1, 1_300_000)):
        write_run(tmp_path, run_id, START + hours * HOUR, windows=170)
        write_rows(tmp_path, "resources", pressed(START + hours * HOUR, first_usec), run_id=run_id)
    found = report(open_recording([tmp_path]))
    (activity,) = found.activity
    (share,) = (one.value for one in activity.other_explanations if one.kind == "cpu-pressure")
    assert share == pytest.approx(0.13)
    assert found.recorded_seconds == pytest.approx(20.3, abs=0.1)
    assert found.end - found.start > HOUR


def test_a_pause_within_a_file_is_one(tmp_path: Path) -> None:
    rows = windows_rows(300)
    for row in rows[100:]:
        row["window_start"] += 10 * HOUR
    write_rows(tmp_path, "windows", rows)
    recording = open_recording([tmp_path])
    assert [span.start for span in recording.recorded("node-1")] == [START, rows[100]["window_start"]]
    assert recording.recorded_time() == pytest.approx(timedelta(seconds=17.9), abs=timedelta(seconds=0.2))
    (caveat,) = (one.text for one in report(recording).caveats if one.id == "gap")
    assert caveat == "nothing from node-1 between 2026-11-22 14:00:05 UTC and 2026-11-23 00:00:06 UTC"
