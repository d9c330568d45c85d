# SPDX-License-Identifier: Apache-2.0
"""What all tests share: without root, those marked `root` are left out, which the very last line says.

With CI set in the environment, leaving tests out is a failure. The place of this file puts its directory on the
import path: tests of all directories share modules that lie here.
"""

import os
import signal
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import settings
from live_node import TRACER, Cgroup, Tracer
from own_cgroups import own_name, remove_tree, remove_what_dead_tests_left

from tracer.containers.cgroupfs import find_cgroup2_mount

# Machines are shared and noisy, and some are emulated.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")

# readline, which pytest imports, sets them behind Python's back, and a command that is started would heed them.
for _name in ("COLUMNS", "LINES"):
    if _name not in os.environ:
        os.unsetenv(_name)

_NOT_RUN = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-transcripts", action="store_true", help="record what commands print anew (test_transcripts.py)"
    )
    parser.addoption(
        "--kills",
        type=int,
        metavar="N",
        help="kill N tracers, and processes at each of their system calls (tests/chaos)",
    )


@pytest.fixture
def own_cgroup() -> Iterator[Path]:
    """A cgroup at the top of the cgroup2 tree, removed with all that is in it when the test is over."""
    top = find_cgroup2_mount() / own_name()
    top.mkdir()
    try:
        yield top
    finally:
        remove_tree(top)


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

    def start(*options: str, output: Path = tmp_path / "results", program: Sequence[str] = TRACER) -> Tracer:
        started.append(Tracer(output, *options, program=program))
        return started[-1]

    yield start
    for tracer in started:
        if tracer.process.poll() is None:
            tracer.process.kill()
        tracer.process.communicate()


def pytest_sessionstart() -> None:
    # Polars, once imported, has a handler of its own, after which the kernel goes on with a wait (SA_RESTART): Ctrl-C
    # would not end one for a guest.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Under nohup it is ignored, which the tracers of the tests would take over, and rightly go on.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if os.geteuid() == 0:
        remove_what_dead_tests_left()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    needs_root = [item for item in items if item.get_closest_marker("root")]
    if needs_root:
        config.stash[_NOT_RUN] = len(needs_root)
        config.hook.pytest_deselected(items=needs_root)
        items[:] = [item for item in items if item not in needs_root]


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _NOT_RUN in session.config.stash and os.environ.get("CI") and session.exitstatus in (0, 5):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True)
def pytest_unconfigure(config: pytest.Config) -> Iterator[None]:
    yield
    if _NOT_RUN in config.stash:
        print(f"{config.stash[_NOT_RUN]} tests were not run: they need root (sudo make test)")
