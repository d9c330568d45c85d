# SPDX-License-Identifier: Apache-2.0
"""The state of containers that users run without root: podman's and Docker's, in each user's own home.

`~/.local/share/containers/storage` and `~/.local/share/docker`, or where `$XDG_DATA_HOME` or a configuration of the
user's has led podman: that stands on the command line of conmon, `-b <bundle>`, whose process id is in the run-time
directory (as in containers/storage's types/options.go, and podman's libpod/oci_conmon_common.go).

All of it belongs to the user, and says what the user wants it to say; see `UserFiles`. A home that no `/etc/passwd`
names, and containerd's state, which rootless containerd hides in a mount namespace, stay unread.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from tracer.containers.runtime_state.docker import DockerState
from tracer.containers.runtime_state.files import Files, UserFiles
from tracer.containers.runtime_state.oci_storage import DRIVERS, OciStorage
from tracer.containers.runtime_state.reader import Found, Reader

_MOST_USERS = 256
_MOST_STORES = 8
_MOST_PID_BYTES = 16
_MOST_COMMAND_BYTES = 65_536


class UserStates:
    """The state of all users of the node whose file system is `root`. Not thread-safe."""

    def __init__(self, root: Path) -> None:
        self._root = str(root).rstrip("/")
        self._files = Files()
        self._readers: dict[int, list[Reader]] = {}
        self._stores: dict[int, dict[str, Reader]] = {}

    def find(self, user_id: int, container_id: str, runtime: str | None) -> Found | None:
        """As `Reader.find`, of one user."""
        for reader in self.readers(user_id):
            found = reader.find(container_id, runtime)
            if found is not None:
                return found
        store = self._store_of(user_id, container_id)
        return None if store is None else store.find(container_id, runtime)

    def readers(self, user_id: int) -> Iterable[Reader]:
        """Of all places in which containers of a user have been found, or are looked for."""
        if user_id not in self._readers:
            if len(self._readers) >= _MOST_USERS:
                self._readers.clear()
                self._stores.clear()
            self._readers[user_id] = self._usual_readers(user_id)
        return [*self._readers[user_id], *self._stores.get(user_id, {}).values()]

    def _usual_readers(self, user_id: int) -> list[Reader]:
        home = self._home(user_id)
        if home is None:
            return []
        files = UserFiles(user_id, home)
        data = Path(home, ".local/share")
        return [OciStorage([data / "containers/storage"], files), DockerState([data / "docker"], files)]

    def _home(self, user_id: int) -> str | None:
        """Of the user by the node's `/etc/passwd` (passwd(5)); one in the file system's root is nobody's."""
        content = self._files.read(f"{self._root}/etc/passwd") or b""
        for line in content.decode(errors="surrogateescape").split("\n"):
            fields = line.split(":")
            if len(fields) == 7 and fields[2] == str(user_id) and fields[5].strip("/"):
                return f"{self._root}/{fields[5].strip('/')}"
        return None

    def _store_of(self, user_id: int, container_id: str) -> Reader | None:
        """The storage in which conmon's own command line says that the container is."""
        bundle = self._bundle(user_id, container_id)
        match = re.fullmatch(rf"(/.+)/(?:{'|'.join(DRIVERS)})-containers/{container_id}/userdata", bundle or "")
        if match is None:
            return None
        stores = self._stores.setdefault(user_id, {})
        if match[1] not in stores:
            if len(stores) >= _MOST_STORES:
                stores.clear()
            # The root's own directories are the administrator's, all below them might be the user's.
            stores[match[1]] = OciStorage([Path(self._root + match[1])], UserFiles(user_id, self._root or "/"))
        return stores[match[1]]

    def _bundle(self, user_id: int, container_id: str) -> str | None:
        """What the conmon of a container was given with `-b`."""
        run = f"{self._root}/run/user/{user_id}"
        for driver in DRIVERS:
            pid_file = f"{run}/containers/{driver}-containers/{container_id}/userdata/conmon.pid"
            pid = UserFiles(user_id, run).read(pid_file, _MOST_PID_BYTES)
            if pid is not None and pid.isdigit():
                processes = f"{self._root}/proc"
                command = UserFiles(user_id, processes).read(f"{processes}/{int(pid)}/cmdline", _MOST_COMMAND_BYTES)
                arguments = (command or b"").split(b"\0")
                if b"-b" in arguments[:-1]:
                    return os.fsdecode(arguments[arguments.index(b"-b") + 1])
        return None
