# SPDX-License-Identifier: Apache-2.0
"""A database of podman's since 4.8, read without trust: SQLite.

Of users' databases anything may be expected. SQLite reads a copy in memory, answers one question, calls no function for
it, and is stopped if that takes long.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import count

import msgspec

from tracer.containers.runtime_state.names import harmless

_LARGEST_ROW = 2**20
_STEPS = 10_000
_MOST_STEPS = 2_000 * _STEPS

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


def containers_in_pods(content: bytes) -> Iterator[tuple[str, str, str, bool]]:
    """Of a database's bytes: id of a container, of its pod, that one's name, and if the container holds its namespaces.

    Names are harmless. Nothing is raised, whatever the bytes are: there are no more then.
    """
    try:
        for values in _answers(content):
            match values:
                case (str(container_id), str(pod_id), str(name), state) if name:
                    is_infra = container_id == _infra_id(state)
                    yield container_id[:64], pod_id[:64], harmless(name) or "", is_infra
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
        yield from connection.execute(_QUESTION)
    finally:
        connection.close()


def _only_reading(action: int, *_of_what: str | None) -> int:
    allowed = action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
