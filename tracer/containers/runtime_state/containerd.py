# SPDX-License-Identifier: Apache-2.0
"""containerd: the OCI bundles of its running tasks.

`<state>/io.containerd.runtime.v2.task/<containerd namespace>/<id>/config.json` is the OCI configuration that the
low-level runtime starts the container from, so it is complete before the cgroup exists. Its annotations name

    io.kubernetes.cri.*   CRI: the kubelet's pods, in the namespace `k8s.io` (keys as in containerd's
                          internal/cri/annotations; seen live with containerd 1.7.24)
    nerdctl/name          nerdctl, in any namespace (as in its pkg/labels and pkg/cmd/container; not seen live); what
                          its register of names says is newer

Docker's containers (namespace `moby`) have bundles without annotations (seen live with Docker 20.10.24); their names
are in Docker's own state.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import msgspec

from tracer.containers.runtime_state.files import Files
from tracer.containers.runtime_state.names import ContainerNames, harmless
from tracer.containers.runtime_state.nerdctl import NerdctlNames
from tracer.containers.runtime_state.oci import ClassAnnotations, Linux, blockio_class, rdt_class
from tracer.containers.runtime_state.reader import Found, Reader, Record

STATE_DIRECTORIES = (
    Path("/run/containerd"),
    Path("/run/k3s/containerd"),  # k3s and RKE2
    Path("/run/k0s/containerd"),
    Path("/var/snap/microk8s/common/run/containerd"),
)
"""The `state` of containerd's configuration, as containerd and the distributions that bring their own set it."""

_TASKS = "io.containerd.runtime.v2.task"
_DOCKER_NAMESPACE = "moby"


class _Annotations(
    ClassAnnotations,
    rename={
        "container_type": "io.kubernetes.cri.container-type",
        "container_name": "io.kubernetes.cri.container-name",
        "pod_name": "io.kubernetes.cri.sandbox-name",
        "pod_uid": "io.kubernetes.cri.sandbox-uid",
        "namespace": "io.kubernetes.cri.sandbox-namespace",
        "image": "io.kubernetes.cri.image-name",
        "nerdctl_name": "nerdctl/name",
    },
):
    container_type: str | None = None
    container_name: str | None = None
    pod_name: str | None = None
    pod_uid: str | None = None
    namespace: str | None = None
    image: str | None = None
    nerdctl_name: str | None = None


class _Bundle(msgspec.Struct):
    annotations: _Annotations | None = None
    linux: Linux | None = None


_DECODER = msgspec.json.Decoder(_Bundle)


class ContainerdState(Reader):
    """The tasks in some of containerd's state directories, in whichever of its namespaces they are."""

    runtimes = frozenset({"containerd"})

    def __init__(self, state_directories: Iterable[Path], nerdctl: NerdctlNames, files: Files) -> None:
        super().__init__(files)
        self._tasks = [str(directory / _TASKS) for directory in state_directories]
        self._nerdctl = nerdctl

    def find(self, container_id: str, _runtime: str | None) -> Found | None:
        """See `Reader`."""
        for tasks, namespace in self._namespaces():
            bundle = self.files.read_json(f"{tasks}/{namespace}/{container_id}/config.json", _DECODER)
            if bundle is not None:
                annotations = bundle.annotations or _Annotations()
                names = _names(annotations, bundle.linux)
                if annotations.nerdctl_name is None:
                    return Found(names)
                return self._of_nerdctl(names, namespace, container_id)
        return None

    def places(self) -> Iterable[str]:
        """See `Reader`."""
        return [f"{tasks}/{namespace}" for tasks, namespace in self._namespaces()]

    def _namespaces(self) -> Iterator[tuple[str, str]]:
        """Each with the directory in which it is."""
        for tasks in self._tasks:
            for namespace in self.files.names_in(tasks):
                if namespace != _DOCKER_NAMESPACE:
                    yield tasks, namespace

    def _of_nerdctl(self, names: ContainerNames, namespace: str, container_id: str) -> Found:
        register = self._nerdctl.register_of(namespace, container_id)
        if register is None:
            return Found(names)
        read = partial(self._by_register, names, register, container_id)
        return Found(read() or names, Record(self.files, register, read))

    def _by_register(self, names: ContainerNames, register: str, container_id: str) -> ContainerNames | None:
        name = harmless(self._nerdctl.name(register, container_id))
        return None if name is None else msgspec.structs.replace(names, container_name=name)


def _names(annotations: _Annotations, linux: Linux | None) -> ContainerNames:
    is_sandbox = annotations.container_type == "sandbox"
    return ContainerNames(
        runtime="containerd",
        is_sandbox=is_sandbox,
        container_name=None if is_sandbox else harmless(annotations.container_name or annotations.nerdctl_name),
        pod_name=harmless(annotations.pod_name),
        pod_uid=harmless(annotations.pod_uid),
        namespace=harmless(annotations.namespace),
        image=harmless(annotations.image),
        rdt_class=rdt_class(annotations, linux),
        blockio_class=blockio_class(annotations),
    )
