# SPDX-License-Identifier: Apache-2.0
"""One look-up for all runtimes."""

import re
from collections.abc import Iterable
from pathlib import Path

from tracer.containers.runtime_state.containerd import STATE_DIRECTORIES, ContainerdState
from tracer.containers.runtime_state.docker import DATA_ROOTS, DockerState
from tracer.containers.runtime_state.names import ContainerNames
from tracer.containers.runtime_state.oci_storage import STORAGE_ROOTS, OciStorage

_CONTAINER_ID = re.compile("[0-9a-f]{64}")


class RuntimeState:
    """The state that container runtimes keep below `root`. Not thread-safe."""

    def __init__(self, root: Path = Path("/"), containerd_states: Iterable[Path] = ()) -> None:
        """Look below `root`, the node's file system, for state in the runtimes' usual places.

        containerd_states: further values of `state` in containerd's configuration, as paths on the node.
        """
        self._readers: list[ContainerdState | OciStorage | DockerState] = [
            ContainerdState(_below(root, [*containerd_states, *STATE_DIRECTORIES])),
            OciStorage(_below(root, STORAGE_ROOTS)),
            DockerState(_below(root, DATA_ROOTS)),
        ]

    def names(self, container_id: str, runtime: str | None) -> ContainerNames | None:
        """What the state says of the container; None if it says nothing or cannot be read, or for no 64 hex digits.

        `runtime` is the one its cgroup's path tells, if any. Its state is asked first, then that of the others: a path
        without a prefix leads to a guess. Whichever has the container is in the answer.

        Only names are read, never arguments, environment or mounts. Whatever the files hold, nothing is raised. None
        can become an answer later, while the runtime is still making the container.
        """
        if _CONTAINER_ID.fullmatch(container_id) is None:
            return None
        for reader in sorted(self._readers, key=lambda reader: runtime not in reader.runtimes):
            found = reader.find(container_id, runtime)
            if found is not None:
                return found
        return None


def _below(root: Path, paths: Iterable[Path]) -> list[Path]:
    return [root / str(path).lstrip("/") for path in paths]
