# SPDX-License-Identifier: Apache-2.0
"""What all tests share: without root, those marked `root` are left out, which the very last line says.

With CI set in the environment, leaving tests out is a failure. The place of this file puts its directory on the
import path: tests of unit/ and kernel/ share modules that lie here.
"""

import os
from collections.abc import Iterator

import pytest

_NOT_RUN = pytest.StashKey[int]()


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
