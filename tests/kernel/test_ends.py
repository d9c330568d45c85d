# SPDX-License-Identifier: Apache-2.0
"""How a run ends when something goes wrong: always, within a bound, with its reason, and with what could be kept."""

import itertools
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from faulty_tracer import FAULT
from live_node import TRACER, Result, Tracer

from tracer.store.manifest import Manifest, read_manifest

pytestmark = pytest.mark.root

FAULTY = Path(__file__).parents[1] / "faulty_tracer.py"


@pytest.fixture
def start_faulty(start_tracer: Callable[..., Tracer]) -> Callable[..., Tracer]:
    """Starts a run whose stage fails at an item; see `faulty_tracer.py`."""

    def start(stage: str, item: str, how: str = "raises", *options: str) -> Tracer:
        return start_tracer("--duration", "3s", *options, program=(str(FAULTY), stage, item, how))

    return start


def left_behind(tracer: Tracer) -> Result:
    """What a run left that did not end well; every file that is there can be read."""
    (path,) = tracer.output.glob("runs/*/session.json")
    for file in tracer.output.rglob("*.parquet"):
        pl.read_parquet(file)
    return Result(tracer.output, read_manifest(path), tracer.said)


def last_line(said: str) -> str:
    assert "Traceback" not in said
    return said.splitlines()[-1]


def window_ticks(result: Result) -> int:
    """Ticks of the run that have rows."""
    windows = result.table("windows").group_by("window_tick").agg(pl.first("ticks"))
    return int(windows["ticks"].sum())


@pytest.mark.parametrize("stage", ["reading", "assembling", "storing"])
@pytest.mark.parametrize("item", ["0", "3", "last"])
def test_a_stage_that_fails_ends_the_run(start_faulty: Callable[..., Tracer], stage: str, item: str) -> None:
    tracer = start_faulty(stage, item)
    assert tracer.end() == 1
    assert last_line(tracer.said) == (
        f"tracer: error: {stage} failed, which is a defect of the tracer: RuntimeError('{FAULT}')"
    )
    result = left_behind(tracer)
    assert result.manifest.status == "failed"
    assert FAULT in str(result.manifest.exit_reason)
    assert "Traceback" in result.manifest.notes[-1]
    assert not list(tracer.output.rglob("*.inprogress"))
    if (stage, item) in {("reading", "3"), ("assembling", "3"), ("storing", "3")}:
        # What came before the fault, and after it where the stage can go on.
        assert window_ticks(result) > 500
    if (stage, item) == ("reading", "last"):
        assert window_ticks(result) > 2000
    if stage == "reading" and item != "last":
        # What was left in the rings is lost with its cause.
        assert result.manifest.totals.records_lost > 0
        assert {cause for causes in result.manifest.totals.lost_by_cpu.values() for cause in causes} == {"not_read"}
    if (stage, item) != ("assembling", "last"):
        assert result.manifest.totals.records_unaccounted == 0


@pytest.mark.parametrize(
    ("stage", "item"), [("reading", "3"), ("assembling", "3"), ("storing", "3"), ("storing", "last")]
)
def test_a_stage_that_hangs_is_not_waited_for(start_faulty: Callable[..., Tracer], stage: str, item: str) -> None:
    tracer = start_faulty(stage, item, "hangs")
    assert tracer.end() == 1
    # Its neighbour may be stuck with it: there is no more room between them, or nothing comes.
    assert re.search(rf"stuck in ({stage}|reading, assembling);", last_line(tracer.said))
    if stage != "storing":
        # The files are closed all the same.
        assert left_behind(tracer).manifest.status == "failed"


@pytest.mark.parametrize("thread", ["watching", "resources"])
@pytest.mark.parametrize("item", ["0", "1"])
def test_what_only_adds_to_the_rows_may_fail(start_faulty: Callable[..., Tracer], thread: str, item: str) -> None:
    tracer = start_faulty(thread, item)
    assert tracer.end() == 0, tracer.said
    result = left_behind(tracer)
    assert any(FAULT in note for note in result.manifest.notes)
    assert window_ticks(result) == 3000


def test_a_reader_that_hangs_is_not_waited_for(start_faulty: Callable[..., Tracer]) -> None:
    tracer = start_faulty("resources", "1", "hangs")
    assert tracer.end() == 1
    assert "stuck in resources" in last_line(tracer.said)
    assert window_ticks(left_behind(tracer)) == 3000


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system with room for the probe of a run's start, and for not much more."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tracer-test", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_disk_that_is_full_when_the_last_files_are_closed(
    start_tracer: Callable[..., Tracer], tiny_disk: Path
) -> None:
    tracer = start_tracer("--duration", "3s", output=tiny_disk / "results")
    assert tracer.end() == 4
    assert "No space left on device" in last_line(tracer.said)
    assert not list(tiny_disk.rglob("*.inprogress"))


def test_a_bound_on_the_size_of_files(tmp_path: Path) -> None:
    output = tmp_path / "results"
    ended = subprocess.run(
        [sys.executable, *TRACER, "run", "--duration", "3s", "--output", output],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_240, 10_240)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 4
    assert "File too large" in last_line(ended.stderr)
    assert not list(output.rglob("*.inprogress"))


def test_an_output_that_becomes_a_file(start_tracer: Callable[..., Tracer], tmp_path: Path) -> None:
    tracer = start_tracer("--duration", "3s")
    tracer.wait_until_tracing()
    moved = tmp_path / "moved"
    for number in itertools.count():
        # It may make its directory again in between.
        with suppress(FileNotFoundError):
            tracer.output.rename(moved.with_suffix(f".{number}"))
        with suppress(FileExistsError):
            os.close(os.open(tracer.output, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
    assert tracer.end() == 4
    assert "Not a directory" in last_line(tracer.said)


def manifest_of(output: Path) -> Manifest:
    (path,) = output.glob("runs/*/session.json")
    return read_manifest(path)


def test_a_second_signal_ends_it_at_once(start_faulty: Callable[..., Tracer]) -> None:
    # The store hangs, so that the first signal alone would lead to nothing for long.
    tracer = start_faulty("storing", "last", "hangs")
    tracer.wait_until_tracing()
    tracer.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    tracer.process.send_signal(signal.SIGINT)
    assert tracer.end() == -signal.SIGINT
    assert manifest_of(tracer.output).status == "running"


def ignores(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Whether a process ignores a signal (proc_pid_status(5))."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (ignored,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")]
    return bool(int(ignored, 16) >> (number - 1) & 1)


# From the tracer's first line to some way into the run.
@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_starts(tmp_path: Path, seconds: float, number: signal.Signals) -> None:
    output = tmp_path / "results"
    process = subprocess.Popen(
        [sys.executable, *TRACER, "run", "--output", output],
        # As a shell does for what a script starts with `&`.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        stderr=subprocess.PIPE,
        text=True,
    )
    while ignores(process, signal.SIGINT):
        # The interpreter's own start, of which the tracer knows nothing.
        assert process.poll() is None
        time.sleep(0.001)
    time.sleep(seconds)
    process.send_signal(number)
    try:
        _out, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert "Traceback" not in said
    if process.returncode == 0:
        assert manifest_of(output).exit_reason == "stopped"
    else:
        assert process.returncode in (-number, 128 + number)
        assert list(tmp_path.iterdir()) == []


def test_a_hang_up_is_ignored_under_nohup(tmp_path: Path) -> None:
    output = tmp_path / "results"
    process = subprocess.Popen(
        [sys.executable, *TRACER, "run", "--duration", "3s", "--output", output],
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "tracing" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    process.communicate()
    assert process.returncode == 0
    assert manifest_of(output).exit_reason == "duration is over"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(tmp_path: Path, closed: str) -> None:
    output = tmp_path / "results"
    ended = subprocess.run(
        [
            "/bin/sh",
            "-c",
            f'"$@" {closed}',
            "sh",
            sys.executable,
            *TRACER,
            "run",
            "--duration",
            "1s",
            "--output",
            output,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert window_ticks(Result(output, manifest_of(output), "")) == 1000


@pytest.mark.parametrize(("limit", "named"), [(resource.RLIMIT_AS, "address space"), (resource.RLIMIT_DATA, "data")])
def test_too_little_address_space(tmp_path: Path, limit: int, named: str) -> None:
    ended = subprocess.run(
        [sys.executable, *TRACER, "run", "--duration", "1s", "--output", tmp_path / "results"],
        preexec_fn=lambda: resource.setrlimit(limit, (400_000 << 10, 400_000 << 10)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 3
    assert named in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@pytest.mark.parametrize("option", ["--duration", "--rotate", "--resources-interval", "--processes"])
def test_a_time_beyond_all_bounds(start_tracer: Callable[..., Tracer], tmp_path: Path, option: str) -> None:
    tracer = start_tracer(option, "99999999999h")
    assert tracer.end() == 2
    assert tracer.said == f"tracer: error: {option}: too long: '99999999999h' (at most 36500d)\n"
    assert list(tmp_path.iterdir()) == []


def test_every_record_has_a_place(start_tracer: Callable[..., Tracer]) -> None:
    result = start_tracer("--duration", "3s", "--rotate", "1s").result()
    totals = result.manifest.totals
    assert totals.records_unaccounted == 0
    assert totals.records_unassembled == 0
    assert totals.rows_unaccounted == {}
    assert totals.rows_received == totals.rows == totals.rows_present
    assert totals.files_present == len(list(result.output.rglob("*.parquet")))
    assert totals.records_merged > 0
    health = result.table("health")
    for column in ("records", "records_expanded", "records_merged", "records_outside_run"):
        assert health[column].sum() == getattr(totals, column)
    flows = health.sort("time").select(
        "rows_waiting",
        expected=pl.col("rows_received").cum_sum()
        - pl.col("rows_written").cum_sum()
        - pl.col("rows_dropped").cum_sum(),
    )
    assert flows["rows_waiting"].equals(flows["expected"], check_names=False)
    assert health["rows_waiting"].min() >= 0
    assert health["write_max_ns"].max() > 0
