# SPDX-License-Identifier: Apache-2.0
"""A flight recorder on the live node: an incident of 300 ms is found by a rule, and its recording says whose it was."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from live_node import TRACER, Cgroup, Tracer, holds_none_twice

from tracer.store.manifest import Manifest, read_manifest

pytestmark = pytest.mark.root

# A service that works for 5 ms of each 20 or so. Whatever else the machine has to do runs after it (sched(7)).
SERVICE = (
    f"exec taskset -c 0 chrt --fifo 1 {sys.executable} -c 'import time\n"
    "while True:\n"
    "    end = time.monotonic() + 0.005\n"
    "    while time.monotonic() < end: pass\n"
    "    time.sleep(0.015)'"
)
# Has the same CPU for 300 ms, before the service.
BURST = (
    f"exec taskset -c 0 chrt --fifo 2 {sys.executable} -c 'import time\n"
    "end = time.monotonic() + 0.3\n"
    "while time.monotonic() < end: pass'"
)


def name_of(cgroup: Cgroup) -> str:
    """What a container without other names is called."""
    return f"{cgroup.path.parent.name}/{cgroup.path.name[:12]}"


def tracer_says(*arguments: str | Path) -> str:
    """What a command of the tracer prints."""
    command = [sys.executable, *TRACER, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def recordings(output: Path) -> list[Manifest]:
    return sorted(map(read_manifest, output.glob("runs/*/session.json")), key=lambda one: one.start.utc_ns)


def await_recordings(output: Path, begun: int, finished: int) -> list[Manifest]:
    """Until so many have begun, and so many of them are complete."""
    until = time.monotonic() + 60
    while len(found := recordings(output)) < begun or [one.status for one in found].count("finished") < finished:
        assert time.monotonic() < until, found
        time.sleep(0.1)
    return found


def test_an_incident_is_written_and_its_recording_names_the_culprit(
    new_container: Callable[[], Cgroup], start_tracer: Callable[..., Tracer], tmp_path: Path
) -> None:
    victim, culprit = new_container(), new_container()
    victim_name, culprit_name = name_of(victim), name_of(culprit)
    rule = f"wait-others({victim_name})>70% for 180ms"
    socket = tmp_path / "top.sock"
    options = ["--recorder", "30s", "--after", "2s", "--when", rule, "--socket", str(socket)]
    victim.start(SERVICE)
    tracer = start_tracer(*options)
    tracer.wait_until_tracing()
    time.sleep(4)
    assert not list(tracer.output.glob("*")), "something is written though nothing has happened"
    culprit.start(BURST)
    (of_rule,) = await_recordings(tracer.output, begun=1, finished=1)
    # By hand, over the socket and by a signal; what runs can be looked at meanwhile.
    assert "are written" in tracer_says("mark", "--socket", socket, "a deploy")
    assert victim_name[:12] in tracer_says("top", "--once", "--socket", socket)
    await_recordings(tracer.output, begun=2, finished=2)
    tracer.process.send_signal(signal.SIGUSR1)
    await_recordings(tracer.output, begun=3, finished=2)
    tracer.process.send_signal(signal.SIGTERM)
    assert tracer.end() == 0, tracer.said
    assert not socket.exists()
    first, marked, signalled = recordings(tracer.output)
    assert first.run_id == of_rule.run_id
    assert first.recorder is not None
    assert marked.recorder is not None
    assert signalled.recorder is not None
    (occasion,) = first.recorder.occasions
    assert (occasion.reason, occasion.rule, occasion.who) == ("rule", rule, victim_name)
    assert marked.recorder.occasions[0].note == "a deploy"
    assert signalled.recorder.occasions[0].reason == "signal"
    for one in (first, marked, signalled):
        assert one.status == "finished"
        assert (one.totals.rows_unaccounted, one.totals.records_unaccounted) == ({}, 0)
        assert one.totals.rows["ticks"] > 0
    # The minutes before are there, and the two seconds after.
    assert occasion.start is not None
    assert occasion.end is not None
    assert first.end is not None
    assert first.start.utc_ns < occasion.start.utc_ns - 2 * 10**9
    assert first.end.utc_ns > occasion.end.utc_ns + 10**9
    rows = pl.read_parquet(tracer.output / "windows/**/*.parquet", hive_partitioning=False)
    assert holds_none_twice(rows), "rows are in two recordings"
    around = ["--since", occasion.start.utc[:23] + "Z", "--until", occasion.end.utc[:23] + "Z"]
    said = tracer_says("report", f"{tracer.output}@{str(first.run_id)[:8]}", *around)
    assert said.splitlines()[0].startswith(victim_name), said
    assert culprit_name in said.splitlines()[0], said
    assert f"recorder: {victim_name}" in tracer_says("runs", tracer.output)


def test_a_recorder_that_is_killed_leaves_a_recording_that_can_be_recovered(
    start_tracer: Callable[..., Tracer],
) -> None:
    tracer = start_tracer("--recorder", "30s", "--after", "1m", "--socket", "off")
    tracer.wait_until_tracing()
    time.sleep(3)
    tracer.process.send_signal(signal.SIGUSR1)
    time.sleep(3)
    os.kill(tracer.process.pid, signal.SIGKILL)
    assert tracer.end() == -signal.SIGKILL
    assert "recovered" in tracer_says("recover", tracer.output)
    (manifest,) = recordings(tracer.output)
    assert manifest.status == "crashed"
    assert manifest.recorder is not None
    assert manifest.recorder.occasions[0].reason == "signal"
    rows = pl.read_parquet(tracer.output / "windows/**/*.parquet", hive_partitioning=False)
    assert manifest.totals.rows["windows"] == rows.height
    assert rows["window_start"].n_unique() * 0.06 > 3
