# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests on a real container runtime; what they make is gone when tests end, however they end."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from containerd_node import ContainerdNode, Pod


@pytest.fixture(scope="session")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerdNode]:
    """A running containerd, which all tests share."""
    with ContainerdNode(tmp_path_factory.mktemp("containerd") / "node") as node:
        yield node


@pytest.fixture
def run_pod(containerd: ContainerdNode) -> Iterator[Callable[..., Pod]]:
    """Starts pods as `ContainerdNode.run_pod()` does; those that are left are removed when the test is over."""
    started: list[Pod] = []

    def run(name: str, **options: Any) -> Pod:
        started.append(containerd.run_pod(name, **options))
        return started[-1]

    yield run
    for pod in started:
        containerd.remove_pod(pod)
