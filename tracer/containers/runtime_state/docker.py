# SPDX-License-Identifier: Apache-2.0
"""Docker: `<data root>/containers/<id>/config.v2.json`, written when the container is made (seen live with 20.10.24).

It is replaced by another file at each change of the container, `docker rename` among them.

`Name` is the container's name after a slash. For a pod's containers cri-dockerd, and the kubelet's dockershim before
it, make it of the pod's names, and read them back from it: `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>`, with a
random part after that where the name was taken (as in cri-dockerd's core/naming.go; not seen live).

The labels `io.kubernetes.*` say the same, but a container inherits labels from its image too: one run from an image
that was committed from some pod would bear that pod's name. Other agents' containers: see `docker_agents`.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import msgspec

from tracer.containers.runtime_state.docker_agents import Labels, names_by_agent
from tracer.containers.runtime_state.files import Files
from tracer.containers.runtime_state.names import ContainerNames, harmless
from tracer.containers.runtime_state.reader import Found, Reader, Record

DATA_ROOTS = (Path("/var/lib/docker"), Path("/var/snap/docker/common/var-lib-docker"))
"""Docker's `data-root`: its own and the snap's. A daemon told to use another keeps its names to itself."""

_SANDBOX_NAME = "POD"


class _Config(msgspec.Struct, rename="pascal"):
    image: str | None = None
    labels: Labels | None = None


class _Container(msgspec.Struct, rename="pascal"):
    name: str | None = None
    config: _Config | None = None


_DECODER = msgspec.json.Decoder(_Container)


class DockerState(Reader):
    """The containers below some of Docker's data roots, running or not."""

    runtimes = frozenset({"docker"})

    def __init__(self, data_roots: Iterable[Path], files: Files) -> None:
        super().__init__(files)
        self._containers = [str(data_root / "containers") for data_root in data_roots]

    def find(self, container_id: str, _runtime: str | None) -> Found | None:
        """See `Reader`."""
        for containers in self._containers:
            path = f"{containers}/{container_id}/config.v2.json"
            names = self._read(path)
            if names is not None:
                return Found(names, Record(self.files, path, partial(self._read, path)))
        return None

    def places(self) -> Iterable[str]:
        """See `Reader`."""
        return self._containers

    def _read(self, path: str) -> ContainerNames | None:
        container = self.files.read_json(path, _DECODER)
        return None if container is None else _names(container)


def _names(container: _Container) -> ContainerNames:
    name = (container.name or "").removeprefix("/")
    image = harmless(container.config.image) if container.config else None
    match name.split("_"):
        case ["k8s", container_name, pod_name, namespace, pod_uid, _attempt, *suffix] if len(suffix) <= 1:
            is_sandbox = container_name == _SANDBOX_NAME
            return ContainerNames(
                runtime="docker",
                is_sandbox=is_sandbox,
                container_name=None if is_sandbox else harmless(container_name),
                pod_name=harmless(pod_name),
                pod_uid=harmless(pod_uid),
                namespace=harmless(namespace),
                image=image,
            )
    labels = container.config.labels if container.config else None
    by_agent = None if labels is None else names_by_agent(name, labels, image)
    return by_agent or ContainerNames(runtime="docker", container_name=harmless(name), image=image)
