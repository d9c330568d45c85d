# SPDX-License-Identifier: Apache-2.0
"""What reads the state of a runtime, or of several that keep it in the same way."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tracer.containers.runtime_state.files import Files
from tracer.containers.runtime_state.names import ContainerNames


class Record(NamedTuple):
    """Where a runtime writes a container's name down, and writes it anew when the container is renamed."""

    files: Files
    path: str
    """Of a file or directory; of several containers it may be the same."""
    read: Callable[[], ContainerNames | None]
    """The names as they are now; None if they cannot be read."""


class Found(NamedTuple):
    """A container's names; `record` is None where they never change."""

    names: ContainerNames
    record: Record | None = None


class Reader(ABC):
    """Reads with `files` below directories of its own. Whatever these hold, nothing is raised. Not thread-safe."""

    runtimes: frozenset[str]
    """Whose state it reads."""

    def __init__(self, files: Files) -> None:
        self.files = files

    @abstractmethod
    def find(self, container_id: str, runtime: str | None) -> Found | None:
        """The container with this id, of 64 hex digits; `runtime` is what the path of its cgroup tells, if anything.

        None can become an answer later, while the runtime is still making the container.
        """

    @abstractmethod
    def places(self) -> Iterable[str]:
        """Directories that are changed when a container is made: each has something in it that is called by its id."""
