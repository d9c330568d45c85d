# SPDX-License-Identifier: Apache-2.0
"""podman's pods, in its database `db.sql` in the storage's root or libpod/ (as in its libpod/sqlite_state.go; 5.4.2's).

Before podman 4.8, and where it was updated from that, the database is a BoltDB. That is not read, so that pods have no
names there.
"""

from collections.abc import Mapping
from typing import NamedTuple

from tracer.containers.runtime_state.files import Files, Version

# A container's configuration is in it, of some 10 kB.
_MOST_BYTES = 16 * 2**20

_PLACES = ("libpod/db.sql", "db.sql")


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
            known = _Database(version, _pods(self._files.read(path, _MOST_BYTES)))
            self._databases[path] = known
        return known.pods


def _pods(content: bytes | None) -> dict[str, Pod]:
    """By container, of a database; SQLite takes an empty one for a lack of memory."""
    if not content:
        return {}
    # Few nodes have one.
    from tracer.containers.runtime_state.podman_database import containers_in_pods

    return {
        container_id: Pod(pod_id, name, is_infra)
        for container_id, pod_id, name, is_infra in containers_in_pods(content)
    }
