# SPDX-License-Identifier: Apache-2.0
"""podman's pods, in its database `db.sql` in the storage's root or libpod/ (as in its libpod/sqlite_state.go; 5.4.2's).

Before podman 4.8, and where it was updated from that, the database is a BoltDB. That is not read, so that pods have no
names there.

Of users' databases anything may be expected. SQLite reads a copy in memory, answers one question, calls no function for
it, and is stopped if that takes long.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from itertools import count, islice
from typing import NamedTuple

import msgspec

from tracer.containers.runtime_state.files import Files, Version
from tracer.containers.runtime_state.names import harmless

# A container's configuration is in it, of some 10 kB.
_MOST_BYTES = 32 * 2**20
_LARGEST_ROW = 2**20
_MOST_CONTAINERS = 16_384
_STEPS = 10_000
_MOST_STEPS = 2_000 * _STEPS

_PLACES = ("libpod/db.sql", "db.sql")
_QUESTION = """
    SELECT container.ID, pod.ID, pod.Name, state.JSON
    FROM ContainerConfig AS container
    JOIN PodConfig AS pod ON pod.ID = container.PodID
    LEFT JOIN PodState AS state ON state.ID = pod.ID
"""


class _State(msgspec.Struct):
    """Of a pod; the column of this name stays empty (seen with 5.4.2)."""

    infra_id: str = msgspec.field(default="", name="InfraContainerID")


_STATE_DECODER = msgspec.json.Decoder(_State)


class Pod(NamedTuple):
    """The pod that a container is in. `is_infra`: the container holds the pod's namespaces."""

    pod_id: str
    name: str
    is_infra: bool


class _Database(NamedTuple):
    version: Version
    pods: dict[str, Pod]


class PodmanPods:
    """Of all storages of podman that `files` may read."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._databases: dict[str, _Database] = {}

    def pod_of(self, storage_root: str, container_id: str) -> Pod | None:
        """None for a container that is in no pod, or if that cannot be read."""
        pods = (self._pods_in(f"{storage_root}/{place}").get(container_id) for place in _PLACES)
        return next(filter(None, pods), None)

    def _pods_in(self, path: str) -> Mapping[str, Pod]:
        """By container; read again only once something has been written."""
        version = self._files.version(path)
        if version is None:
            self._databases.pop(path, None)
            return {}
        known = self._databases.get(path)
        if known is None or known.version != version:
            content = self._files.read(path, _MOST_BYTES)
            known = _Database(version, dict(_pods(content)) if content else {})
            self._databases[path] = known
        return known.pods


def _pods(content: bytes) -> Iterator[tuple[str, Pod]]:
    """By container, of a database; as far as it has any."""
    try:
        for values in _answers(content):
            match values:
                case (str(container_id), str(pod_id), str(name), state) if name:
                    is_infra = container_id == _infra_id(state)
                    yield container_id[:64], Pod(pod_id[:64], harmless(name) or "", is_infra)
    except (sqlite3.Error, OverflowError, ValueError):
        return


def _infra_id(state: object) -> str | None:
    try:
        return _STATE_DECODER.decode(state).infra_id if isinstance(state, str | bytes) else None
    except (ValueError, RecursionError):
        return None


def _answers(content: bytes) -> Iterable[tuple[object, ...]]:
    """Raises sqlite3.Error for what is no such database."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_ROW)
        connection.text_factory = lambda text: text.decode(errors="replace")
        connection.deserialize(content)
        connection.set_authorizer(_only_reading)
        steps = count(_STEPS, _STEPS)
        connection.set_progress_handler(lambda: next(steps) > _MOST_STEPS, _STEPS)
        yield from islice(connection.execute(_QUESTION), _MOST_CONTAINERS)
    finally:
        connection.close()


def _only_reading(action: int, *_of_what: str | None) -> int:
    allowed = action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
