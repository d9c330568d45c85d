# SPDX-License-Identifier: Apache-2.0
"""What all tests share: without root, those marked `root` are left out, which the very last line says.

With CI set in the environment, leaving tests out is a failure. The place of this file puts its directory on the
import path: tests of unit/ and kernel/ share modules that lie here.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_cgroups import own_name, remove_tree, remove_what_dead_tests_left

from tracer.containers.cgroupfs import find_cgroup2_mount
from tracer.errors import NodeUnsupportedError

_NOT_RUN = pytest.StashKey[int]()


def _has_all_controllers() -> bool:
    """Whether memory, CPU and I/O are controlled in the version 2 tree, not in hierarchies of version 1."""
    try:
        controllers = (find_cgroup2_mount() / "cgroup.controllers").read_text().split()
    except (NodeUnsupportedError, OSError):
        return False
    return {"cpu", "memory", "io", "pids"} <= set(controllers)


# What they need is a node of another kind, which the test VM is.
collect_ignore = [] if _has_all_controllers() else ["resources_guest"]


@pytest.fixture
def own_cgroup() -> Iterator[Path]:
    """A cgroup at the top of the cgroup2 tree, removed with all that is in it when the test is over."""
    top = find_cgroup2_mount() / own_name()
    top.mkdir()
    try:
        yield top
    finally:
        remove_tree(top)


def pytest_sessionstart() -> None:
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
