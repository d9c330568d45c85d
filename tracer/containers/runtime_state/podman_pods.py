# SPDX-License-Identifier: Apache-2.0
"""podman's pods, in its own database, below the storage's root.

db.sql, or in libpod/    SQLite, since podman 4.8 (as in its libpod/sqlite_state.go; seen live with 5.4.2)
libpod/bolt_state.db     BoltDB, before that, and where podman was updated since (seen live with 4.3.1)
"""

from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from tracer.containers.runtime_state.files import Files, Version

# A container's configuration is in it, of some 10 kB.
_MOST_BYTES = 16 * 2**20

_MOST_CONTAINERS = 16_384

_SQLITE = ("libpod/db.sql", "db.sql")
_BOLTDB = "libpod/bolt_state.db"


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
        pods = (self._pods_in(f"{storage_root}/{place}").get(container_id) for place in (*_SQLITE, _BOLTDB))
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
            is_sqlite = not path.endswith(_BOLTDB)
            # SQLite takes an empty database for a lack of memory.
            known = _Database(version, _pods(content, is_sqlite=is_sqlite) if content else {})
            self._databases[path] = known
        return known.pods


def _pods(content: bytes, *, is_sqlite: bool) -> dict[str, Pod]:
    """By container, of a database."""
    # Few nodes have one.
    if is_sqlite:
        from tracer.containers.runtime_state.podman_sqlite import containers_in_pods
    else:
        from tracer.containers.runtime_state.podman_boltdb import containers_in_pods
    found = islice(containers_in_pods(content), _MOST_CONTAINERS)
    return {container_id: Pod(pod_id, name, is_infra) for container_id, pod_id, name, is_infra in found}
