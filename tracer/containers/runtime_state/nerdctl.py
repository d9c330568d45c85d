# SPDX-License-Identifier: Apache-2.0
"""nerdctl's register of names: `<data root>/<address hash>/names/<containerd namespace>/<name>`, with the id in it.

As its docs/dir.md says; not seen live. `nerdctl rename` writes a file of the new name and removes the old one, whereas
the bundle of a running container keeps the name with which it was started.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from tracer.containers.runtime_state.files import Files, Version

DATA_ROOTS = (Path("/var/lib/nerdctl"),)

_MOST_ID_BYTES = 128


class _Register(msgspec.Struct):
    """One directory of names as it was last read."""

    version: Version
    ids: dict[str, str]
    """By name."""
    names: dict[str, str]
    """By id."""


class NerdctlNames:
    """The registers below some of nerdctl's data roots."""

    def __init__(self, data_roots: Iterable[Path], files: Files) -> None:
        self._data_roots = [str(root) for root in data_roots]
        self._files = files
        self._registers: dict[str, _Register] = {}

    def register_of(self, namespace: str, container_id: str) -> str | None:
        """Path of the register, of those for a namespace of containerd, in which the container is."""
        for root in self._data_roots:
            for address_hash in self._files.names_in(root):
                register = f"{root}/{address_hash}/names/{namespace}"
                if self.name(register, container_id) is not None:
                    return register
        return None

    def name(self, register: str, container_id: str) -> str | None:
        """The container's name by a register; None if it has none."""
        return self._names(register).get(container_id)

    def _names(self, path: str) -> Mapping[str, str]:
        version = self._files.version(path)
        if version is None:
            self._registers.pop(path, None)
            return {}
        known = self._registers.get(path)
        if known is None or known.version != version:
            ids = {} if known is None else known.ids
            # A name is a file of its own: those of before still hold the same.
            ids = {name: ids.get(name) or self._id(f"{path}/{name}") for name in self._files.names_in(path)}
            known = _Register(version, ids, {container_id: name for name, container_id in ids.items()})
            self._registers[path] = known
        return known.names

    def _id(self, path: str) -> str:
        content = self._files.read(path, _MOST_ID_BYTES)
        return "" if content is None else content.decode(errors="replace").strip()
