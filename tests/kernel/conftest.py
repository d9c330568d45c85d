# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests on the live kernel; what they make is gone when the test is over, also when it fails."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_node import Cgroup, Tracer


@pytest.fixture
def new_container(own_cgroup: Path) -> Iterator[Callable[[], Cgroup]]:
    """Makes cgroups named as containerd's cgroupfs driver names a pod's containers."""
    pods = own_cgroup / "kubepods" / "burstable"
    made: list[Cgroup] = []

    def make() -> Cgroup:
        made.append(Cgroup(pods / f"pod{uuid.uuid4()}" / (uuid.uuid4().hex * 2)))
        return made[-1]

    yield make
    for cgroup in made:
        cgroup.stop()


@pytest.fixture
def start_tracer(tmp_path: Path) -> Iterator[Callable[..., Tracer]]:
    """Starts tracers that are ended, if they still run, when the test is over."""
    started: list[Tracer] = []

    def start(*options: str, output: Path = tmp_path / "results") -> Tracer:
        started.append(Tracer(output, *options))
        return started[-1]

    yield start
    for tracer in started:
        if tracer.process.poll() is None:
            tracer.process.kill()
        tracer.process.communicate()
