# SPDX-License-Identifier: Apache-2.0
"""One look-up for all runtimes."""

import re
from collections.abc import Iterable
from pathlib import Path

from tracer.containers.identity import ContainerKey
from tracer.containers.runtime_state.containerd import STATE_DIRECTORIES, ContainerdState
from tracer.containers.runtime_state.docker import DATA_ROOTS, DockerState
from tracer.containers.runtime_state.files import Files
from tracer.containers.runtime_state.names import ContainerNames
from tracer.containers.runtime_state.nerdctl import DATA_ROOTS as NERDCTL_DATA_ROOTS
from tracer.containers.runtime_state.nerdctl import NerdctlNames
from tracer.containers.runtime_state.oci_storage import STORAGE_ROOTS, OciStorage
from tracer.containers.runtime_state.reader import Found, Reader
from tracer.containers.runtime_state.users import UserStates
from tracer.errors import UsageError

_CONTAINER_ID = re.compile("[0-9a-f]{64}")


class RuntimeState:
    """The state that container runtimes keep below `root`. Not thread-safe."""

    def __init__(self, root: Path = Path("/"), containerd_states: Iterable[Path] = ()) -> None:
        """Look below `root`, the node's file system, for state in the runtimes' usual places.

        containerd_states: further values of `state` in containerd's configuration, as paths on the node.
        """
        files = Files()
        nerdctl = NerdctlNames(_below(root, NERDCTL_DATA_ROOTS), files)
        self._readers: list[Reader] = [
            ContainerdState(_below(root, [*containerd_states, *STATE_DIRECTORIES]), nerdctl, files),
            OciStorage(_below(root, STORAGE_ROOTS), files),
            DockerState(_below(root, DATA_ROOTS), files),
        ]
        self._users = UserStates(root)

    def find(self, key: ContainerKey, runtime: str | None) -> Found | None:
        """What the state says of the container; None if it says nothing or cannot be read, or for no 64 hex digits.

        `runtime` is the one its cgroup's path tells, if any. Its state is asked first, then that of the others: a path
        without a prefix tells none. Whichever has the container is in the answer. What runs for a user is looked for
        in that user's own state only, so that nobody has the names of somebody else's containers.

        Only names are read, never arguments, environment or mounts. Whatever the files hold, nothing is raised. None
        can become an answer later, while the runtime is still making the container.
        """
        if _CONTAINER_ID.fullmatch(key.container_id) is None:
            return None
        if key.user_id is not None:
            return self._users.find(key.user_id, key.container_id, runtime)
        for reader in sorted(self._readers, key=lambda reader: runtime not in reader.runtimes):
            found = reader.find(key.container_id, runtime)
            if found is not None:
                return found
        return None

    def names(self, key: ContainerKey, runtime: str | None) -> ContainerNames | None:
        """The names alone."""
        found = self.find(key, runtime)
        return None if found is None else found.names

    def readers(self, user_id: int | None) -> Iterable[Reader]:
        """Those that `find` asks for a container of this user, or of the node itself."""
        return self._readers if user_id is None else self._users.readers(user_id)


def state_directory(text: str) -> Path:
    """A further `state` directory of containerd. Raises UsageError for what is no directory that can be listed."""
    if not text:
        raise UsageError("--containerd-state must not be empty")
    path = Path(text).absolute()
    try:
        next(path.iterdir(), None)
    except OSError as error:
        raise UsageError(f"--containerd-state: cannot read {text!r}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--containerd-state: {text!r} is no path: {error}") from error
    return path


def _below(root: Path, paths: Iterable[Path]) -> list[Path]:
    return [root / str(path).lstrip("/") for path in paths]
