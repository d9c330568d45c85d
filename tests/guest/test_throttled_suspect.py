# SPDX-License-Identifier: Apache-2.0
"""`tracer verify` by `cpu.max`. Run in a guest, with the cpu controller."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_node import TRACER, Cgroup
from waiters import SPIN, Waiters

from tracer.containers.cgroupfs import find_cgroup2_mount

pytestmark = pytest.mark.root

PATIENCE_SECONDS = 300


@pytest.fixture
def new_waiters(own_cgroup: Path) -> Iterator[Callable[[], Waiters]]:
    """Containers whose CPU time can be limited."""
    containers = own_cgroup / "docker"
    containers.mkdir()
    for directory in (find_cgroup2_mount(), own_cgroup, containers):
        (directory / "cgroup.subtree_control").write_text("+cpu")
    made: list[Waiters] = []

    def new() -> Waiters:
        made.append(Waiters(Cgroup(containers / (uuid.uuid4().hex * 2))))
        return made[-1]

    yield new
    for waiters in made:
        waiters.end()


def start(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, *TRACER, "verify", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(is_so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.002)


@pytest.mark.parametrize("limit", ["max 100000", "150000 80000"])
def test_a_suspect_is_throttled_and_has_its_very_limit_again(new_waiters: Callable[[], Waiters], limit: str) -> None:
    victim, suspect = new_waiters(), new_waiters()
    cpu = min(os.sched_getaffinity(0))
    victim.add(SPIN, cpu)
    suspect.add(SPIN, cpu)
    cpu_max = suspect.cgroup.path / "cpu.max"
    cpu_max.write_text(limit)
    names = [waiters.cgroup.path.name for waiters in (victim, suspect)]
    process = start(*names, "--duration", "20s", "--pulse", "250ms", "--duty", "25", "--json")
    assert process.stderr is not None
    assert "throttled (cpu.max)" in process.stderr.readline()
    victim.go()
    suspect.go()
    out, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    outcome = json.loads(out)
    (waiting,) = [one for one in outcome["effects"] if one["kind"] == "waiting"]
    assert outcome["control"] == "cpu.max"
    assert waiting["verdict"] == "proved"
    assert outcome["suspect"]["cpus_paused"] < 0.2 * outcome["suspect"]["cpus_otherwise"]
    assert cpu_max.read_text() == f"{limit}\n"


def test_killed_it_leaves_the_limit_as_it_was(new_waiters: Callable[[], Waiters]) -> None:
    victim, suspect = new_waiters(), new_waiters()
    cpu_max = suspect.cgroup.path / "cpu.max"
    cpu_max.write_text("150000 80000")
    names = [waiters.cgroup.path.name for waiters in (victim, suspect)]
    process = start(*names, "--duration", "5m", "--pulse", "1s", "--duty", "25")
    try:
        wait_until(lambda: process.poll() is not None or cpu_max.read_text() == "1000 1000000\n")
        assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGKILL)
        wait_until(lambda: cpu_max.read_text() == "150000 80000\n")
        wait_until(lambda: not Path("/run/tracer/verify.json").exists())
    finally:
        process.kill()
        process.communicate()
